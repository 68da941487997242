"""Asks dialog how long tenants keep their data."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from parley.dialog.v1 import tenant_pb2

from parley_client.channel import Connection
from parley_client.dialog import TenantClient
from parley_client.errors import InvalidArgument, NotFound

T = TypeVar("T")


def retention_of(dialog: Connection, read: Callable[[tenant_pb2.Retention], T]) -> Callable[[str], Awaitable[T | None]]:
    """Returns a function that asks dialog about one tenant, and reads the answer, of which every field is set.

    The function returns None for an unknown tenant or an invalid name. It raises `CallError` if dialog does not answer.
    """
    client = TenantClient(dialog)

    async def ask(tenant_id: str) -> T | None:
        try:
            return read((await client.get_tenant(tenant_pb2.GetTenantRequest(tenant_id=tenant_id))).tenant.retention)
        except (NotFound, InvalidArgument):
            return None

    return ask
