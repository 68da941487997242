"""Who makes the call that is being served."""

from contextvars import ContextVar
from dataclasses import dataclass

from services.kernel.errors import Kind, ParleyError

ALL: frozenset[str] = frozenset({"*"})
"""Stands for every tenant, and for what belongs to none."""


@dataclass(frozen=True)
class Caller:
    """A verified caller: the name of a service, `operator` or `integration`; and its tenants, or `ALL`."""

    name: str
    tenants: frozenset[str]

    def allows(self, tenant_id: str) -> bool:
        """Whether the caller may act for a tenant. An empty id and `*` need a token for all tenants."""
        return self.tenants is ALL or (tenant_id in self.tenants and tenant_id != "*")


_caller: ContextVar[Caller] = ContextVar("parley_caller")


def caller() -> Caller:
    """The caller of the RPC that this task serves. Raises `LookupError` outside of one."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Say who is calling; the interceptor does so, and tests may."""
    _caller.set(caller)


def require_tenant(tenant_id: str) -> None:
    """Raise TENANT_NOT_ALLOWED unless the caller may act for this tenant."""
    if not caller().allows(tenant_id):
        raise tenant_not_allowed(tenant_id)


def tenant_not_allowed(tenant_id: str) -> ParleyError:
    what = f"tenant {tenant_id!r}" if tenant_id not in ("", "*") else "all tenants"
    return ParleyError(
        Kind.DENIED, "TENANT_NOT_ALLOWED", f"The token is not for {what}.", metadata={"tenant_id": tenant_id}
    )
