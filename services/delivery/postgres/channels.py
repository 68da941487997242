"""Channels in Postgres, their secrets sealed."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from google.protobuf.message import Message

from services.delivery.domain.channels import Channel, ChannelValues, Deleted, Provider
from services.delivery.postgres.gates import QUERIES as GATES
from services.delivery.postgres.sending import QUERIES as OUTBOX
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

_COLUMNS = """channel_key, tenant_id, channel_id, provider, bot_id, api_base, enabled, broken_reason, token,
    webhook_secret, revision, created_at, updated_at"""
QUERIES = load_queries(Path(__file__).parent / "channels.sql", columns=_COLUMNS)


class _Reader:
    """Opens what is sealed: each secret opens in its own place only."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def channel(self, row: "asyncpg.Record | Sequence[object]") -> Channel:
        values = tuple(row)
        key, tenant_id, channel_id, provider, bot_id, api_base, enabled, broken, token, secret, *times = values
        try:
            token = self._open(token, tenant_id, channel_id, "token")
            secret = self._open(secret, tenant_id, channel_id, "secret")
        except CannotOpen as error:
            log.error("a channel's secrets cannot be opened", channel_id=channel_id, error=describe(error), alert=True)
            # It neither sends nor receives, and holds up no other channel: no webhook can show a secret made now.
            token, secret, broken = "", secrets.token_urlsafe(24), "its secrets cannot be opened"
        return Channel(
            key,
            tenant_id,
            channel_id,
            Provider(provider),
            bot_id,
            api_base,
            enabled,
            broken,
            token,
            secret,
            *times,
        )

    def _open(self, sealed: bytes, tenant_id: str, channel_id: str, what: str) -> str:
        return self._sealer.open(sealed, bound_to=bound_to(tenant_id, channel_id, what)).decode()


def bound_to(tenant_id: str, channel_id: str, what: str) -> str:
    """The place of a secret."""
    return f"delivery/channel/{tenant_id}/{channel_id}/{what}"


class ChannelEdits:
    """Changes of channels, within one transaction."""

    def __init__(self, conn: Connection, sealer: Sealer) -> None:
        self._conn = conn
        self._sealer = sealer
        self._read = _Reader(sealer)

    async def create(self, tenant_id: str, channel_id: str, provider: Provider, values: ChannelValues) -> Channel:
        """Raises ALREADY_EXISTS, whoever has the id."""
        row = await self._conn.fetchrow(
            QUERIES["create"],
            tenant_id,
            channel_id,
            provider,
            values.bot_id,
            values.api_base or "",
            self._seal(tenant_id, channel_id, "token", values.token or ""),
            self._seal(tenant_id, channel_id, "secret", values.webhook_secret or ""),
        )
        if row is None:
            raise already_exists("channel", channel_id)
        return self._read.channel(row)

    async def get(self, tenant_id: str, channel_id: str) -> Channel:
        """As it stays until this transaction changes it. Raises CHANNEL_NOT_FOUND."""
        row = await self._conn.fetchrow(QUERIES["get"], channel_id, tenant_id)
        if row is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        return self._read.channel(row)

    async def update(self, tenant_id: str, channel_id: str, values: ChannelValues) -> Channel:
        """Values that are None stay. Raises CHANNEL_NOT_FOUND. What waits is due at once if the channel now sends."""
        row = await self._conn.fetchrow(
            QUERIES["update"],
            tenant_id,
            channel_id,
            values.bot_id,
            values.api_base,
            None if values.token is None else self._seal(tenant_id, channel_id, "token", values.token),
            None
            if values.webhook_secret is None
            else self._seal(tenant_id, channel_id, "secret", values.webhook_secret),
            values.enabled,
            values.broken_reason,
        )
        if row is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        channel = self._read.channel(row)
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

    def _seal(self, tenant_id: str, channel_id: str, what: str, secret: str) -> bytes:
        return self._sealer.seal(secret.encode(), bound_to=bound_to(tenant_id, channel_id, what))


class PostgresChannelStore:
    """`ChannelStore` on Postgres. `changed` is called after each commit that changes a channel."""

    def __init__(self, pool: "Pool", sealer: Sealer, *, changed: Callable[[], None]) -> None:
        self._pool = pool
        self._sealer = sealer
        self._changed = changed
        self._read = _Reader(sealer)
        self._requests = Requests("delivery")

    async def changes(self, since: int) -> Sequence[tuple[int, Channel | Deleted]]:
        """What has changed above a revision, each with its own, in their order."""
        rows = await self._pool.fetch(QUERIES["changes"], since)
        return [
            (revision, self._read.channel(row) if alive else Deleted(row[0], row[2]))
            for revision, alive, *row in (tuple(row) for row in rows)
        ]

    async def get(self, channel_id: str, tenant_id: str) -> Channel | None:
        """Of any tenant when the id is empty."""
        row = await self._pool.fetchrow(QUERIES["get"], channel_id, tenant_id)
        return None if row is None else self._read.channel(row)

    async def page(self, tenant_id: str, bot_id: str, *, after: str, limit: int) -> Sequence[Channel]:
        """By id, those after `after`; of one bot when it is named."""
        rows = await self._pool.fetch(QUERIES["list"], tenant_id, after, bot_id, limit)
        return [self._read.channel(row) for row in rows]

    async def once(
        self, request: Message, response: type[R], method: str, work: Callable[[ChannelEdits], Awaitable[R]]
    ) -> R:
        """Lets `work` change channels in one transaction, once per request id; its answer is kept for a day."""
        async with self._pool.acquire() as conn, conn.transaction():
            await conn.execute(QUERIES["turn"])
            edits = ChannelEdits(conn, self._sealer)
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
