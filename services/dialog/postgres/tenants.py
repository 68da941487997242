"""Tenants and their API keys in PostgreSQL."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from google.protobuf.message import Message

from parley.dialog.v1 import tenant_pb2

from services.dialog.postgres.database import Database
from services.dialog.postgres.queries import load
from services.dialog.postgres.request_ids import Once
from services.dialog.usecases.tenants import StoredKey, TenantRows
from services.kernel.errors import already_exists, not_found

if TYPE_CHECKING:
    from services.runtime.postgres import PoolConnection

Response = TypeVar("Response", bound=Message)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


class PostgresTenants:
    """Reads tenants and keys, and opens transactions on them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("tenants")
        self._once = Once(database)

    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[TenantRows], Awaitable[Response]],
    ) -> Response:
        return await self._once(request, response, method, lambda connection: work(_TenantRows(connection, self._sql)))

    async def get(self, tenant_id: str) -> tenant_pb2.Tenant:
        row = await self._database.fetchrow(self._sql["get"], tenant_id)
        if row is None:
            raise not_found("TENANT_NOT_FOUND", "tenant", "tenant_id", tenant_id)
        return _tenant(row)

    async def key(self, key_id: str) -> StoredKey | None:
        row = await self._database.fetchrow(self._sql["key"], key_id)
        return None if row is None else StoredKey(_key(row), row["secret_sha256"])

    async def key_used(self, key_id: str) -> None:
        await self._database.fetch(self._sql["key_used"], key_id)

    async def keys(
        self, tenant_id: str, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[tuple[datetime, tenant_pb2.ApiKey]]:
        rows = await self._database.fetch(self._sql["keys"], tenant_id, *(after or (_LATEST, "")), limit)
        return [(row["created_at"], _key(row)) for row in rows]


RETENTION = tuple(field.name for field in tenant_pb2.Retention.DESCRIPTOR.fields)
"""Columns of a tenant that say for how long its data is kept; NULL for the settings' word."""


class _TenantRows:
    """Tenants and keys within a transaction."""

    def __init__(self, connection: "PoolConnection", sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql

    async def insert(self, tenant: tenant_pb2.Tenant) -> tenant_pb2.Tenant:
        kept = [_days(tenant.retention, name) for name in RETENTION]
        values = (tenant.tenant_id, tenant.display_name, tenant.time_zone, tenant.default_region, *kept)
        try:
            row = await self._connection.fetchrow(self._sql["insert"], *values)
        except asyncpg.UniqueViolationError:
            raise already_exists("tenant", tenant.tenant_id) from None
        assert row is not None
        return _tenant(row)

    async def keep(self, tenant_id: str, retention: tenant_pb2.Retention, fields: Sequence[str]) -> tenant_pb2.Tenant:
        kept = [_days(retention, name) for name in RETENTION]
        row = await self._connection.fetchrow(self._sql["keep"], tenant_id, fields, *kept)
        if row is None:
            raise not_found("TENANT_NOT_FOUND", "tenant", "tenant_id", tenant_id)
        return _tenant(row)

    async def insert_key(self, key: StoredKey) -> tenant_pb2.ApiKey:
        new = key.key
        expires_at = new.expires_at.ToDatetime(tzinfo=UTC) if new.HasField("expires_at") else None
        values = (new.key_id, new.tenant_id, key.secret_sha256, list(new.scopes), new.channel_id, expires_at, new.name)
        try:
            row = await self._connection.fetchrow(self._sql["insert_key"], *values)
        except asyncpg.ForeignKeyViolationError:
            raise not_found("TENANT_NOT_FOUND", "tenant", "tenant_id", new.tenant_id) from None
        assert row is not None
        return _key(row)

    async def revoke_key(self, tenant_id: str, key_id: str) -> tenant_pb2.ApiKey:
        row = await self._connection.fetchrow(self._sql["revoke_key"], tenant_id, key_id)
        if row is None:
            raise not_found("API_KEY_NOT_FOUND", "API key", "key_id", key_id)
        return _key(row)


def _tenant(row: asyncpg.Record) -> tenant_pb2.Tenant:
    tenant = tenant_pb2.Tenant(
        tenant_id=row["tenant_id"],
        display_name=row["display_name"],
        time_zone=row["time_zone"],
        default_region=row["default_region"],
    )
    tenant.created_at.FromDatetime(row["created_at"])
    for name in RETENTION:
        if row[name] is not None:
            setattr(tenant.retention, name, row[name])
    return tenant


def _days(retention: tenant_pb2.Retention, name: str) -> int | None:
    return getattr(retention, name) if retention.HasField(name) else None  # type: ignore[arg-type]


def _key(row: asyncpg.Record) -> tenant_pb2.ApiKey:
    key = tenant_pb2.ApiKey(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        scopes=row["scopes"],
        channel_id=row["channel_id"],
        name=row["name"],
    )
    for field, at in (
        (key.created_at, row["created_at"]),
        (key.expires_at, row["expires_at"]),
        (key.revoked_at, row["revoked_at"]),
        (key.last_used_at, row["last_used_at"]),
    ):
        if at is not None:
            field.FromDatetime(at)
    return key
