"""Channels in Postgres, their secrets sealed."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import msgspec
from google.protobuf.message import Message

from services.delivery.domain.channels import Channel, ChannelKind, ChannelValues, Deleted, ProviderKind
from services.delivery.postgres.gates import QUERIES as GATES
from services.delivery.postgres.outbox import QUERIES as OUTBOX
from services.kernel.errors import already_exists, not_found
from services.runtime.crypto import CannotOpen, Sealer
from services.runtime.idempotency import Requests
from services.runtime.lanes import Connection
from services.runtime.logs import describe, get_logger
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

R = TypeVar("R", bound=Message)
log = get_logger(__name__)

_COLUMNS = """channel_key, tenant_id, channel_id, provider, bot_id, settings, enabled, broken_reason, secrets, revision,
    created_at, updated_at"""
QUERIES = load_queries(Path(__file__).parent / "channels.sql", columns=_COLUMNS)
_SEALED_AS = {"webhook_secret": "secret"}
"""Names that differ from those under which the first version sealed them."""


class SealedSecrets:
    """Turns secrets into stored JSON and back. Each opens in its own place only: its tenant, channel and name."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, tenant_id: str, channel_id: str, secrets: Mapping[str, str]) -> str:
        return json.dumps(
            {
                name: self._sealer.seal(secret.encode(), bound_to=_place(tenant_id, channel_id, name)).hex()
                for name, secret in secrets.items()
            }
        )

    def open(self, tenant_id: str, channel_id: str, stored: str) -> dict[str, str]:
        """Raises CannotOpen."""
        return {
            name: self._sealer.open(bytes.fromhex(sealed), bound_to=_place(tenant_id, channel_id, name)).decode()
            for name, sealed in json.loads(stored).items()
        }


class ChannelRows:
    """Turns rows into channels."""

    def __init__(self, sealer: Sealer, kinds: Mapping[ProviderKind, ChannelKind]) -> None:
        self.secrets = SealedSecrets(sealer)
        self._kinds = kinds

    def channel(self, row: "asyncpg.Record | Sequence[object]") -> Channel:
        """The channel. One that cannot be read neither sends nor receives, and holds up no other."""
        values = tuple(row)
        key, tenant_id, channel_id, provider, bot_id, stored, enabled, broken, sealed, *times = values
        settings_type = self._kinds[ProviderKind(provider)].settings
        try:
            secrets: Mapping[str, str] = self.secrets.open(tenant_id, channel_id, sealed)
        except CannotOpen as error:
            secrets, broken = {}, _unreadable(channel_id, "secrets cannot be opened", error)
        try:
            settings = msgspec.json.decode(stored, type=settings_type)
        except msgspec.DecodeError as error:
            settings, broken = settings_type(), _unreadable(channel_id, "settings cannot be read", error)
        return Channel(
            key, tenant_id, channel_id, ProviderKind(provider), bot_id, settings, enabled, broken, secrets, *times
        )


def _unreadable(channel_id: str, what: str, error: Exception) -> str:
    """Why the channel is broken."""
    log.error("a channel cannot be read", channel_id=channel_id, why=what, error=describe(error), alert=True)
    return f"its {what}"


def _place(tenant_id: str, channel_id: str, name: str) -> str:
    return f"delivery/channel/{tenant_id}/{channel_id}/{_SEALED_AS.get(name, name)}"


class ChannelEdits:
    """Changes of channels, within one transaction."""

    def __init__(self, conn: Connection, rows: ChannelRows) -> None:
        self._conn = conn
        self._rows = rows

    async def create(self, tenant_id: str, channel_id: str, provider: ProviderKind, values: ChannelValues) -> Channel:
        """Raises ALREADY_EXISTS, whoever has the id."""
        row = await self._conn.fetchrow(
            QUERIES["create"],
            tenant_id,
            channel_id,
            provider,
            values.bot_id,
            _stored(values),
            self._rows.secrets.seal(tenant_id, channel_id, values.secrets),
        )
        if row is None:
            raise already_exists("channel", channel_id)
        return self._rows.channel(row)

    async def get(self, tenant_id: str, channel_id: str) -> Channel:
        """As it stays until this transaction changes it. Raises CHANNEL_NOT_FOUND."""
        row = await self._conn.fetchrow(QUERIES["get"], channel_id, tenant_id)
        if row is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        return self._rows.channel(row)

    async def update(self, tenant_id: str, channel_id: str, values: ChannelValues) -> Channel:
        """Values that are None stay. Raises CHANNEL_NOT_FOUND. What waits is due at once if the channel now sends."""
        row = await self._conn.fetchrow(
            QUERIES["update"],
            tenant_id,
            channel_id,
            values.bot_id,
            _stored(values),
            self._rows.secrets.seal(tenant_id, channel_id, values.secrets),
            values.enabled,
            values.broken_reason,
        )
        if row is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        channel = self._rows.channel(row)
        await self._conn.execute(GATES["clear"], channel.key)
        if channel.sends:
            await self._conn.execute(OUTBOX["due_now"], channel.key)
        return channel

    async def delete(self, tenant_id: str, channel_id: str) -> None:
        """Raises CHANNEL_NOT_FOUND. What waits is due at once: its worker finds no channel and gives it up."""
        key = await self._conn.fetchval(QUERIES["delete"], tenant_id, channel_id)
        if key is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        await self._conn.execute(GATES["clear"], key)
        await self._conn.execute(OUTBOX["due_now"], key)


def _stored(values: ChannelValues) -> str | None:
    return None if values.settings is None else msgspec.json.encode(values.settings).decode()


class PostgresChannelStore:
    """`ChannelStore` on Postgres. `changed` is called after each commit that changes a channel."""

    def __init__(self, pool: "Pool", rows: ChannelRows, *, changed: Callable[[], None]) -> None:
        self._pool = pool
        self._rows = rows
        self._changed = changed
        self._requests = Requests("delivery")

    async def changes(self, since: int) -> Sequence[tuple[int, Channel | Deleted]]:
        """What has changed above a revision, each with its own, in their order."""
        rows = await self._pool.fetch(QUERIES["changes"], since)
        return [
            (revision, self._rows.channel(row) if alive else Deleted(row[0], row[2]))
            for revision, alive, *row in (tuple(row) for row in rows)
        ]

    async def get(self, channel_id: str, tenant_id: str) -> Channel | None:
        """Of any tenant when the id is empty."""
        row = await self._pool.fetchrow(QUERIES["get"], channel_id, tenant_id)
        return None if row is None else self._rows.channel(row)

    async def page(self, tenant_id: str, bot_id: str, *, after: str, limit: int) -> Sequence[Channel]:
        """By id, those after `after`; of one bot when it is named."""
        rows = await self._pool.fetch(QUERIES["list"], tenant_id, after, bot_id, limit)
        return [self._rows.channel(row) for row in rows]

    async def once(
        self, request: Message, response: type[R], method: str, work: Callable[[ChannelEdits], Awaitable[R]]
    ) -> R:
        """Lets `work` change channels in one transaction, once per request id; its answer is kept for a day."""
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.execute(QUERIES["turn"])
            edits = ChannelEdits(conn, self._rows)
            result = await self._requests.once(conn, request, response, lambda: work(edits), method=method)
        self._changed()
        return result

    async def mark_broken(self, channel: Channel, reason: str) -> bool:
        """The provider refuses the channel as it is at its revision. False when it was changed meanwhile."""
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.execute(QUERIES["turn"])
            marked = await conn.fetchval(QUERIES["break"], channel.key, channel.revision, reason) is not None
        if marked:
            self._changed()
        return marked

    async def expire(self) -> None:
        """Forgets old request ids."""
        await self._requests.tidy(self._pool)
