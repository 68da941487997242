"""What workers read and write: leases with their deliveries, started calls, and what came of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from parley.common.v1.content_pb2 import OutboundContent

from parley_client.coalesce import Coalescer
from services.delivery.domain import deliveries
from services.delivery.domain.outbox import Priority, Queued
from services.delivery.domain.parts import PartState
from services.delivery.postgres.batching import AWAY, batched
from services.delivery.postgres.outbox import CHANGE, QUERIES, SETTLE, START, ChangeRow, SettleRow, StartRow
from services.delivery.postgres.sealing import Sealing
from services.delivery.usecases.ports import Change, Claimed, Record, Said, Started
from services.runtime.crashpoints import reach
from services.runtime.lanes import Append, Connection, Found, Held, Lanes, Lease, Lookback, Room, Settle
from services.runtime.logs import describe
from services.runtime.partitions import extent
from services.runtime.postgres import retry_deadlocks

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

AHEAD = 4
"""Deliveries of a lane that are read at once."""
PATIENCE = 20.0
"""Seconds for which a result waits for PostgreSQL."""
GATHER = 0.01
"""Seconds that results wait for each other in a crowd: nobody waits for what is written of a call that was made."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The deliveries that were changed, what dialog must hear of them, and what is pending in settled lanes."""

    stored: set[UUID]
    said: list[Said]
    pending: dict[Held, int]

    def settled(self, item: Record) -> bool:
        return item.settle is not None and Held(item.settle.lane_id, item.settle.fence) in self.pending

    def left(self, item: Record) -> int:
        """How many wait in the lane that the item settled; 0 when it settled none."""
        return 0 if item.settle is None else self.pending.get(Held(item.settle.lane_id, item.settle.fence), 0)


class PostgresWorkStore:
    """`WorkStore` on Postgres, and what a dispatcher needs of the lanes. `said` gets outcomes once they are stored.

    `named` hears, once they are stored, of channels' keys with the ids that their providers have given to parts.
    """

    def __init__(
        self,
        pool: "Pool",
        lanes: Lanes,
        sealing: Sealing,
        *,
        holder: str,
        said: Callable[[Sequence[Said]], None],
        named: Callable[[Sequence[tuple[int, str]]], None],
    ) -> None:
        self._pool = pool
        self._sealing = sealing
        self._lanes = lanes
        self._holder = holder
        self._lookback = Lookback()
        self._said = said
        self._named = named
        self._starts: Coalescer[Started, bool] = batched(self._start_all, max_in_flight=1)
        self._records: Coalescer[Record, int | None] = batched(self._record_all, max_in_flight=1, gather=GATHER)

    async def claim(self, room: Room, ttl: timedelta) -> Found[Claimed]:
        """Leases lanes that are due, each with its first deliveries."""
        async with self._pool.acquire() as conn:
            found = await self._lanes.claim(conn, holder=self._holder, room=room, ttl=ttl, lookback=self._lookback)
            leases = found.items
            if not leases:
                return Found((), found.more, found.more_patient, found.walked)
            rows = await conn.fetch(
                QUERIES["waiting"],
                [lease.lane_id for lease in leases],
                [lease.done_seq for lease in leases],
                AHEAD,
            )
        reach("delivery.after_claim")
        waiting: dict[UUID, list[Queued]] = {lease.lane_id: [] for lease in leases}
        for lane_id, *row in rows:
            waiting[lane_id].append(queued(row, self._sealing))
        claimed = [Claimed(lease, waiting[lease.lane_id], len(waiting[lease.lane_id]) == AHEAD) for lease in leases]
        return Found(claimed, found.more, found.more_patient, found.walked)

    async def renew(self, leases: Sequence[Held], ttl: timedelta) -> set[UUID]:
        async with self._pool.acquire() as conn:
            return await self._lanes.renew(conn, leases, ttl)

    async def release(self, leases: Sequence[Lease], due_in: timedelta) -> set[UUID]:
        async with self._pool.acquire() as conn:
            return await self._lanes.release(conn, leases, due_in=due_in)

    async def start(self, item: Started) -> bool:
        return await self._starts.submit(item)

    async def record(self, item: Record) -> int | None:
        """Does not give up at once when PostgreSQL is away: a result that is not stored would be sent again."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + PATIENCE
        while True:
            try:
                return await self._records.submit(item)
            except AWAY:
                if loop.time() > patient_until:
                    raise
                await asyncio.sleep(0.25)

    async def read(self, tenant_id: str, delivery_id: UUID) -> Queued | None:
        row = await self._pool.fetchrow(QUERIES["read"], tenant_id, delivery_id)
        return None if row is None else queued(tuple(row), self._sealing)

    async def due_now(self, channel_key: int) -> int:
        """What waits for a channel is due at once; returns in how many lanes."""
        rows = await retry_deadlocks(lambda: self._pool.fetch(QUERIES["due_now"], channel_key))
        return len(rows)

    async def _start_all(self, items: list[Started]) -> Sequence[bool]:
        ids = [item.delivery.delivery_id for item in items]
        rows = await self._pool.fetch(QUERIES["start"], *START.arguments(list(map(_start_row, items))), *extent(ids))
        started = {row[0] for row in rows}
        return [delivery_id in started for delivery_id in ids]

    async def _record_all(self, items: list[Record]) -> Sequence[int | None]:
        recorded = await self._commit(items)
        if recorded.said:
            self._said(recorded.said)
        changes = [item.change for item in items if item.change is not None and _id(item.change) in recorded.stored]
        if ids := [(change.delivery.channel_key, change.named[1]) for change in changes if change.named[1]]:
            self._named(ids)
        return [
            recorded.left(item) if item.change is None or _id(item.change) in recorded.stored else None
            for item in items
        ]

    async def _commit(self, items: Sequence[Record]) -> "_Recorded":
        if all(item.beside is None for item in items):
            return await self._record(self._pool, items)
        async with self._pool.acquire() as conn, conn.transaction():
            recorded = await self._record(conn, items)
            for item in items:
                if item.beside is not None and item.change is not None and recorded.settled(item):
                    await self._move(conn, item.change.delivery, item.beside)
            return recorded

    async def _record(self, conn: "Connection | Pool", items: Sequence[Record]) -> "_Recorded":
        changes = [item.change for item in items if item.change is not None]
        arguments = (
            *CHANGE.arguments(list(map(_change_row, changes))),
            *SETTLE.arguments([_settle_row(item.settle, item.change) for item in items if item.settle is not None]),
            *extent([_id(change) for change in changes]),
        )
        rows = await conn.fetch(QUERIES["record"], *arguments)
        outcomes = {_id(change): change.outcome for change in changes}
        recorded = _Recorded(set(), [], {})
        for delivery_id, outcome_id, lane_id, fence, pending in rows:
            if delivery_id is not None:
                recorded.stored.add(delivery_id)
                outcome = outcomes[delivery_id]
                if outcome_id is not None and outcome is not None:
                    recorded.said.append(Said(outcome_id, outcome))
            if lane_id is not None:
                recorded.pending[Held(lane_id, fence)] = pending
        return recorded

    async def _move(self, conn: Connection, delivery: Queued, due_in: timedelta) -> None:
        """Into a lane of its own, which has the delivery's id."""
        lane_id = delivery.delivery_id
        seqs = await self._lanes.append(
            conn, [Append(lane_id, delivery.tenant_id, 1, due_in, str(delivery.channel_key))]
        )
        await conn.execute(QUERIES["move"], delivery.tenant_id, lane_id, lane_id, seqs[lane_id])


def queued(row: Sequence[Any], sealing: Sealing) -> Queued:
    """From the columns that `waiting` and `read` select. One that cannot be read says so, and its neighbours go on."""
    delivery_id, tenant_id, seq, key, chat_id, message_id, index, parent, state, revision, stored, *rest = row
    priority, *contents = rest
    rendered: tuple[OutboundContent, ...] = (OutboundContent(),)
    fault, kept = "", False
    try:
        rendered = sealing.open_contents(tenant_id, delivery_id, contents).rendered
    except Exception as error:
        fault = f"its text: {describe(error)}"
    try:
        parts = deliveries.from_json(stored, len(rendered))
    except Exception as error:
        parts, fault, kept = deliveries.fresh(len(rendered)), f"its parts: {describe(error)}", True
    return Queued(
        delivery_id,
        tenant_id,
        seq,
        key,
        chat_id,
        message_id,
        index,
        rendered,
        parent,
        state,
        revision,
        parts,
        Priority(priority),
        fault,
        kept,
    )


def _id(change: Change) -> UUID:
    return change.delivery.delivery_id


def _start_row(item: Started) -> StartRow:
    return StartRow(
        tenant_id=item.delivery.tenant_id,
        delivery_id=item.delivery.delivery_id,
        revision=item.revision,
        lane_id=item.lane_id,
        fence=item.fence,
        tries=deliveries.tries(item.parts),
        parts=deliveries.to_json(item.parts),
    )


def _settle_row(settle: Settle, change: Change | None) -> SettleRow:
    return SettleRow(
        lane_id=settle.lane_id,
        fence=settle.fence,
        done=settle.done,
        due_in=0.0 if settle.due_in is None else settle.due_in.total_seconds(),
        delivery_id=None if change is None else _id(change),
    )


def _change_row(change: Change) -> ChangeRow:
    delivery, parts, outcome = change.delivery, change.parts, change.outcome
    part, provider_message_id = change.named
    state = deliveries.state(parts)
    dead = deliveries.dead(parts)
    finished = state is PartState.SENT
    return ChangeRow(
        tenant_id=delivery.tenant_id,
        delivery_id=delivery.delivery_id,
        revision=change.revision,
        state=state,
        tries=deliveries.tries(parts),
        parts=None if delivery.kept else deliveries.to_json(parts),
        sent_at=datetime.fromtimestamp(deliveries.last_sent(parts) / 1000, UTC) if finished else None,
        channel_key=delivery.channel_key,
        part=part,
        provider_message_id=provider_message_id,
        outcome=0 if outcome is None else outcome.state,
        outcome_at=None if outcome is None else outcome.at,
        error="" if outcome is None else outcome.error,
        dead=-1 if change.rises else dead,
    )
