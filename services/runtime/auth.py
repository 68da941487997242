"""Who makes the call that is being served."""

from contextvars import ContextVar
from dataclasses import dataclass

from services.kernel.errors import Kind, ParleyError
from services.runtime.keys import SERVICES

ALL: frozenset[str] = frozenset({"*"})
"""Stands for every tenant, and for what belongs to none."""


@dataclass(frozen=True)
class Caller:
    """A verified caller: the name of a service, `operator` or `integration`; and its tenants, or `ALL`."""

    name: str
    tenants: frozenset[str]

    @property
    def is_service(self) -> bool:
        """Whether it is one of our own services, whose word on traces is taken."""
        return self.name in SERVICES

    def allows(self, tenant_id: str) -> bool:
        """Whether the caller may act for a tenant. An empty id and `*` need a token for all tenants."""
        return self.tenants is ALL or (tenant_id in self.tenants and tenant_id != "*")


_caller: ContextVar[Caller | Exception] = ContextVar("parley_caller")


def caller() -> Caller:
    """The caller of the RPC that this task serves. Raises `LookupError` outside of one, and INVALID_TOKEN when the
    caller is not known."""
    found = _caller.get()
    if isinstance(found, Exception):
        raise found
    return found


def known_caller() -> Caller | None:
    """The caller of this RPC; None when it is not known, or this is no RPC."""
    found = _caller.get(None)
    return found if isinstance(found, Caller) else None


def set_caller(caller: Caller | Exception) -> None:
    """Say who is calling, or why that is not known; the interceptor does so, and tests may."""
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
