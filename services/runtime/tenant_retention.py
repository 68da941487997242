"""Asks dialog how long tenants keep their data."""

from collections.abc import Awaitable, Callable

from parley.dialog.v1 import tenant_pb2

from parley_client.channel import Connection
from parley_client.dialog import TenantClient
from parley_client.errors import InvalidArgument, NotFound


def retention_of(dialog: Connection) -> Callable[[str], Awaitable[tenant_pb2.Retention | None]]:
    """Returns a function that asks dialog about one tenant. It returns None for an unknown tenant or an invalid name;
    otherwise every field is set. It raises `CallError` if dialog does not answer."""
    client = TenantClient(dialog)

    async def ask(tenant_id: str) -> tenant_pb2.Retention | None:
        try:
            return (await client.get_tenant(tenant_pb2.GetTenantRequest(tenant_id=tenant_id))).tenant.retention
        except (NotFound, InvalidArgument):
            return None

    return ask
