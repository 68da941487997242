"""What providers have said of sent messages, and what follows from it in the outbox."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.channels import Channel
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.outbox import Delivery, Outcome, ReplyState, part_of
from services.delivery.domain.scrubbing import without_phones
from services.delivery.domain.statuses import Report
from services.delivery.postgres.batching import AWAY
from services.delivery.postgres.delivery_changes import QUERIES as CHANGING
from services.delivery.postgres.delivery_changes import as_time, store_parts
from services.delivery.postgres.outbox import QUERIES as OUTBOX
from services.delivery.postgres.reading import COLUMNS, delivery_of
from services.delivery.postgres.sealing import Sealing
from services.delivery.usecases.changes import FoundPart, MessageKey, StatusChanges, Unplaced
from services.delivery.usecases.ports import Said
from services.runtime.lanes import Connection
from services.runtime.postgres import retry_deadlocks
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

T = TypeVar("T")
QUERIES = load_queries(Path(__file__).parent / "statuses.sql", columns=COLUMNS)
EXPIRED = 5_000
"""Statuses that one step forgets."""


class PostgresStatusChanges:
    """`StatusChanges` on a connection with a transaction."""

    def __init__(self, conn: Connection, sealing: Sealing) -> None:
        self._conn = conn
        self._sealing = sealing

    async def target(self, channel_key: int, report: Report) -> FoundPart | None:
        named = part_of(report.external_id)
        found = await self._conn.fetchrow(QUERIES["find"], channel_key, report.provider_message_id)
        place = named[:2] if found is None and named is not None else found
        if place is None:
            return None
        row = await self._conn.fetchrow(QUERIES["lock"], None, place[0], channel_key)
        delivery = None if row is None else delivery_of(row, self._sealing)
        if delivery is None or not 0 <= place[1] < len(delivery.parts):
            return None
        return FoundPart(delivery, place[1], is_known=found is not None)

    async def keep(self, channel: Channel, report: Report, dedupe_key: str, *, placed: bool) -> bool:
        place = (channel.tenant_id, channel.key, dedupe_key)
        kept = await self._conn.fetchval(
            QUERIES["keep"],
            channel.key,
            dedupe_key,
            report.provider_message_id,
            report.external_id,
            report.status,
            as_time(report.at),
            None if placed else self._sealing.early_error(place, without_phones(report.error)),
            report.word,
            placed,
        )
        return bool(kept)

    async def unmatched(self, key: MessageKey, tenant_id: str) -> Sequence[tuple[str, Report]]:
        found = []
        for dedupe_key, ours, status, at, clear, sealed, word in await self._conn.fetch(QUERIES["unmatched"], *key):
            error = self._sealing.open_early_error((tenant_id, key[0], dedupe_key), clear, sealed)
            report = Report(ProviderStatus(status), int(at.timestamp() * 1000), key[1], ours, error, word)
            found.append((dedupe_key, report))
        return found

    async def matched(self, channel_key: int, dedupe_keys: Sequence[str]) -> None:
        await self._conn.execute(QUERIES["matched"], channel_key, dedupe_keys)

    async def name(self, key: MessageKey, target: FoundPart) -> bool:
        return bool(await self._conn.fetchval(QUERIES["name"], *key, target.delivery.delivery_id, target.index))

    async def store_parts(self, delivery: Delivery, before: Parts) -> None:
        await store_parts(self._conn, delivery.tenant_id, delivery.delivery_id, delivery.parts, before)

    async def lane_due_now(self, lane_id: UUID) -> None:
        await self._conn.execute(OUTBOX["lane_due_now"], lane_id)

    async def mark(self, delivery: Delivery, at: int, *, read: bool) -> None:
        await self._conn.execute(CHANGING["mark"], delivery.tenant_id, delivery.delivery_id, as_time(at), read)

    async def tell(self, delivery: Delivery, state: ReplyState, at: int, error: str) -> Said:
        outcome = Outcome(
            delivery.tenant_id,
            delivery.delivery_id,
            delivery.message_id,
            delivery.reply_index,
            state,
            as_time(at),
            error,
            delivery.traceparent,
            delivery.tracestate,
        )
        arguments = (delivery.tenant_id, delivery.delivery_id, state, outcome.at, error)
        return Said(await self._conn.fetchval(CHANGING["tell"], *arguments), outcome)


class PostgresStatusStore:
    """`StatusStore` on Postgres."""

    away: tuple[type[Exception], ...] = AWAY

    def __init__(self, pool: "Pool", sealing: Sealing) -> None:
        self._pool = pool
        self._sealing = sealing

    async def transact(self, work: Callable[[StatusChanges], Awaitable[T]]) -> T:
        """Does it again when PostgreSQL chose it to end a deadlock."""

        async def once() -> T:
            async with self._pool.acquire() as conn, conn.transaction():
                return await work(PostgresStatusChanges(conn, self._sealing))

        return await retry_deadlocks(once)

    async def early(self, keys: Sequence[MessageKey]) -> Sequence[MessageKey]:
        columns = [key for key, _ in keys], [name for _, name in keys]
        return [(key, name) for key, name in await self._pool.fetch(QUERIES["early"], *columns)]

    async def unplaced(self, limit: int) -> Sequence[Unplaced]:
        rows = await self._pool.fetch(QUERIES["look"], limit)
        return [Unplaced((key, name), external_id, known) for key, name, external_id, known in rows]

    async def expire(self) -> bool:
        """Forgets old statuses, some at a time. True: there are more."""
        return len(await self._pool.fetch(QUERIES["expire"], EXPIRED)) == EXPIRED
