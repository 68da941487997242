"""For how long tenants have their data kept, as dialog says."""

from collections.abc import Awaitable, Callable

from parley.dialog.v1 import tenant_pb2

from parley_client.channel import Connection
from parley_client.dialog import TenantClient
from parley_client.errors import InvalidArgument, NotFound


def retention_of(dialog: Connection) -> Callable[[str], Awaitable[tenant_pb2.Retention | None]]:
    """Asks dialog of one tenant; every field of the answer is set. None: dialog does not know it, or the name cannot be
    a tenant's. Raises `CallError` when dialog does not answer."""
    client = TenantClient(dialog)

    async def ask(tenant_id: str) -> tenant_pb2.Retention | None:
        try:
            return (await client.get_tenant(tenant_pb2.GetTenantRequest(tenant_id=tenant_id))).tenant.retention
        except (NotFound, InvalidArgument):
            return None

    return ask
