"""Keep tenants and their API keys."""

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.message import Message

from parley.dialog.v1 import tenant_pb2

from services.kernel.clock import Clock
from services.kernel.errors import Kind, ParleyError, already_exists, invalid_field
from services.runtime import pages
from services.runtime.auth import ALL, caller, tenant_not_allowed

Response = TypeVar("Response", bound=Message)
PAGE = 50
USE_NOTED_EVERY = timedelta(hours=1)
_KEY = re.compile(r"pk_([a-z0-9]{16})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class StoredKey:
    """An API key as stored: of its secret only the SHA-256, which is enough for 32 random bytes."""

    key: tenant_pb2.ApiKey
    secret_sha256: bytes


class TenantRows(Protocol):
    """Tenants and keys within a transaction."""

    async def insert(self, tenant: tenant_pb2.Tenant) -> tenant_pb2.Tenant:
        """Raises ALREADY_EXISTS."""

    async def keep(self, tenant_id: str, retention: tenant_pb2.Retention, fields: Sequence[str]) -> tenant_pb2.Tenant:
        """Change fields of its retention. Raises TENANT_NOT_FOUND."""

    async def insert_key(self, key: StoredKey) -> tenant_pb2.ApiKey:
        """Raises TENANT_NOT_FOUND."""

    async def revoke_key(self, tenant_id: str, key_id: str) -> tenant_pb2.ApiKey:
        """Raises API_KEY_NOT_FOUND."""


class TenantStore(Protocol):
    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[TenantRows], Awaitable[Response]],
    ) -> Response:
        """Do the work in a transaction, once per request id."""

    async def get(self, tenant_id: str) -> tenant_pb2.Tenant:
        """Raises TENANT_NOT_FOUND."""

    async def key(self, key_id: str) -> StoredKey | None: ...

    async def key_used(self, key_id: str) -> None:
        """Note that it was used just now."""

    async def keys(
        self, tenant_id: str, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[tuple[datetime, tenant_pb2.ApiKey]]: ...


class Tenants:
    """The use cases of TenantService."""

    def __init__(self, store: TenantStore, defaults: tenant_pb2.Retention, clock: Clock) -> None:
        """`defaults`: for how long data is kept of which nothing else is said."""
        self._store = store
        self._defaults = defaults
        self._clock = clock

    async def create(self, request: tenant_pb2.CreateTenantRequest) -> tenant_pb2.CreateTenantResponse:
        """Raises ALREADY_EXISTS, INVALID_FIELD, and TENANT_NOT_ALLOWED without a token for every tenant."""
        if caller().tenants is not ALL:
            raise tenant_not_allowed("*")
        tenant = tenant_pb2.Tenant()
        tenant.CopyFrom(request.tenant)
        tenant.time_zone = tenant.time_zone or "UTC"
        try:
            ZoneInfo(tenant.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise invalid_field("tenant.time_zone", "is not an IANA name, for example Asia/Bishkek") from None

        async def work(rows: TenantRows) -> tenant_pb2.CreateTenantResponse:
            return tenant_pb2.CreateTenantResponse(tenant=self._as_it_holds(await rows.insert(tenant)))

        return await self._store.once(request, tenant_pb2.CreateTenantResponse, "CreateTenant", work)

    async def get(self, request: tenant_pb2.GetTenantRequest) -> tenant_pb2.GetTenantResponse:
        tenant = await self._store.get(request.tenant_id)
        return tenant_pb2.GetTenantResponse(tenant=self._as_it_holds(tenant))

    async def update(self, request: tenant_pb2.UpdateTenantRequest) -> tenant_pb2.UpdateTenantResponse:
        """Raises TENANT_NOT_FOUND, and INVALID_FIELD for a path that cannot be changed."""
        fields = _retention_fields(request.update_mask.paths)

        async def work(rows: TenantRows) -> tenant_pb2.UpdateTenantResponse:
            tenant = await rows.keep(request.tenant_id, request.tenant.retention, fields)
            return tenant_pb2.UpdateTenantResponse(tenant=self._as_it_holds(tenant))

        return await self._store.once(request, tenant_pb2.UpdateTenantResponse, "UpdateTenant", work)

    def _as_it_holds(self, tenant: tenant_pb2.Tenant) -> tenant_pb2.Tenant:
        retention = tenant_pb2.Retention()
        retention.CopyFrom(self._defaults)
        retention.MergeFrom(tenant.retention)
        retention.spans_days = min(retention.spans_days, self._defaults.spans_days)
        tenant.retention.CopyFrom(retention)
        return tenant

    async def create_key(self, request: tenant_pb2.CreateApiKeyRequest) -> tenant_pb2.CreateApiKeyResponse:
        """The key is shown here and never again: the repeated call raises ALREADY_EXISTS."""
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        api_key = tenant_pb2.ApiKey(
            key_id=key_id,
            tenant_id=request.tenant_id,
            scopes=request.scopes,
            channel_id=request.channel_id,
            name=request.name,
        )
        if request.HasField("expires_at"):
            api_key.expires_at.CopyFrom(request.expires_at)

        async def work(rows: TenantRows) -> tenant_pb2.CreateApiKeyResponse:
            stored = await rows.insert_key(StoredKey(api_key, digest(secret)))
            return tenant_pb2.CreateApiKeyResponse(api_key=stored)

        response = await self._store.once(request, tenant_pb2.CreateApiKeyResponse, "CreateApiKey", work)
        if response.api_key.key_id != key_id:
            raise already_exists("API key", response.api_key.key_id)
        return tenant_pb2.CreateApiKeyResponse(key=f"pk_{key_id}_{secret}", api_key=response.api_key)

    async def list_keys(self, request: tenant_pb2.ListApiKeysRequest) -> tenant_pb2.ListApiKeysResponse:
        filters = request.tenant_id
        position = pages.decode(request.page_token, "ListApiKeys", filters)
        after = (datetime.fromisoformat(str(position[0])), str(position[1])) if position else None
        size = request.page_size or PAGE
        rows = await self._store.keys(request.tenant_id, after, size + 1)
        response = tenant_pb2.ListApiKeysResponse(api_keys=[key for _, key in rows[:size]])
        if len(rows) > size:
            created_at, key = rows[size - 1]
            response.next_page_token = pages.encode("ListApiKeys", filters, [created_at.isoformat(), key.key_id])
        return response

    async def revoke_key(self, request: tenant_pb2.RevokeApiKeyRequest) -> tenant_pb2.RevokeApiKeyResponse:
        async def work(rows: TenantRows) -> tenant_pb2.RevokeApiKeyResponse:
            return tenant_pb2.RevokeApiKeyResponse(api_key=await rows.revoke_key(request.tenant_id, request.key_id))

        return await self._store.once(request, tenant_pb2.RevokeApiKeyResponse, "RevokeApiKey", work)

    async def verify_key(self, request: tenant_pb2.VerifyApiKeyRequest) -> tenant_pb2.VerifyApiKeyResponse:
        """Whose key it is. Raises INVALID_API_KEY, whatever is wrong with it."""
        form = _KEY.fullmatch(request.key)
        stored = await self._store.key(form[1]) if form else None
        if form is None or stored is None or not self._good(stored, form[2]):
            message = "The API key is unknown, revoked or expired; `parley keys create --scope chat` makes one."
            raise ParleyError(Kind.UNAUTHENTICATED, "INVALID_API_KEY", message)
        if self._is_news(stored.key):
            await self._store.key_used(form[1])
        return tenant_pb2.VerifyApiKeyResponse(api_key=stored.key)

    def _is_news(self, key: tenant_pb2.ApiKey) -> bool:
        """Whether the last use that is noted is too long ago to say that it is in use."""
        used_at = key.last_used_at.ToDatetime(tzinfo=UTC) if key.HasField("last_used_at") else None
        return used_at is None or self._clock.now() - used_at > USE_NOTED_EVERY

    def _good(self, stored: StoredKey, secret: str) -> bool:
        key = stored.key
        if not hmac.compare_digest(stored.secret_sha256, digest(secret)) or key.HasField("revoked_at"):
            return False
        return not key.HasField("expires_at") or key.expires_at.ToMicroseconds() > self._clock.now().timestamp() * 1e6


def _retention_fields(paths: Sequence[str]) -> list[str]:
    names = [field.name for field in tenant_pb2.Retention.DESCRIPTOR.fields]
    fields: list[str] = []
    for path in paths:
        head, _, name = path.partition(".")
        if head != "retention" or (name and name not in names):
            raise invalid_field("update_mask", f"{path!r} cannot be changed; retention and its fields can")
        fields += [name] if name else names
    if not fields:
        raise invalid_field("update_mask", "names no field")
    return fields


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
