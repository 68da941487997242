"""Lanes in Postgres: every call is one statement over arrays, inside the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.runtime.lanes.lookback import EVER, Lookback
from services.runtime.lanes.shares import Room
from services.runtime.lanes.timers import first_at, pack, unpack
from services.runtime.lanes.types import LOST_TOO_OFTEN, Append, Found, Held, Lease, Priority, Settle
from services.runtime.queries import load_queries

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_HERE = Path(__file__).parent

WINDOW = 128
"""Oldest lanes that a claim looks at; when all of them are due, there may be others that it must look for by share."""
WALK = 64
"""Shares whose heads it looks for then. The next claim goes on after them, so that any number has its turn."""
LONG_PATIENCE = 30.0
"""Seconds that lanes which can wait may be passed over. Then each claim takes the oldest of them in its turn."""


class Lanes:
    """The lanes of one schema (table `<schema>.lanes`).

    No call opens a transaction of its own, so lanes change together with the caller's rows. Each call locks lanes in
    key order, which prevents deadlocks; a transaction that locks lanes in several calls loses that protection.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(_HERE / "queries.sql", schema=schema)

    @staticmethod
    def ddl(schema: str) -> str:
        """The table and its index, for the service's migration."""
        return (_HERE / "schema.sql").read_text().replace("{schema}", schema)

    async def append(self, conn: Connection, items: Iterable[Append]) -> dict[UUID, int]:
        """Adds items, making lanes that are not there. Returns the first sequence given to each lane.

        Sequences come from the locked row, so they are in the order of commit. Items of one lane are merged.
        """
        merged = _merged(items)
        rows = await conn.fetch(self._sql["append"], *_appended(merged))
        return {lane_id: next_seq - merged[lane_id].count for lane_id, next_seq in rows}

    async def append_leased(
        self, conn: Connection, items: Iterable[Append], *, holder: str, ttl: timedelta, lease: Collection[UUID]
    ) -> tuple[dict[UUID, int], list[Lease]]:
        """As `append`, and leases those of the lanes in `lease` that were idle, as a claim would; these leases too."""
        merged = _merged(items)
        seconds = [ttl.total_seconds() if lane_id in lease else None for lane_id in merged]
        rows = await conn.fetch(self._sql["append_leased"], *_appended(merged), holder, seconds)
        counts = {lane_id: item.count for lane_id, item in merged.items()}
        first = {row["lane_id"]: row["next_seq"] - counts[row["lane_id"]] for row in rows}
        idle = [row for row in rows if row["lane_id"] in lease and row["pending"] == counts[row["lane_id"]]]
        return first, [lease_of(row) for row in idle]

    async def claim(
        self, conn: Connection, *, holder: str, room: Room, ttl: timedelta, lookback: Lookback | None = None
    ) -> Found[Lease]:
        """Leases as many due lanes as there is room for, skipping those that somebody has locked.

        With a `lookback`, most claims look only at lanes that became due lately, as long as looking at all of them is
        slow. Such a claim always looks at whose lanes it takes, because that tells how far back the next one must look.
        """
        if room.at_once and (lookback is None or lookback.is_quick):
            rows = await conn.fetch(self._sql["claim_oldest"], holder, room.at_once, ttl.total_seconds())
            leases = [lease_of(row) for row in rows]
            full = len(leases) == room.at_once
            more = full and leases[-1].priority is Priority.HIGH
            return Found(leases, more, full and not more)
        since = EVER if lookback is None else lookback.since()
        arguments = (holder, room.free, ttl.total_seconds(), *_room(room), since, LONG_PATIENCE)
        rows = await conn.fetch(self._sql["claim"], *arguments)
        leases = [lease_of(row) for row in rows if row["lane_id"] is not None]
        if lookback is not None:
            lookback.seen(rows[0]["oldest_due"], len(leases))
        first = rows[0]
        walked = (first["at_tenant"], first["at_share"]) if first["step"] == WALK else None
        patient = sum(lease.priority is Priority.LOW for lease in leases)
        more_patient = first["seen_patient"] > patient or patient == room.free
        return Found(leases, first["seen"] > len(leases) - patient, more_patient, walked)

    async def hold(self, conn: Connection, leases: Collection[Held]) -> set[UUID]:
        """Locks the lanes until the transaction ends, so that nobody takes them; returns those still held."""
        return await self._lanes(conn, "hold", *_columns(leases))

    async def settle(self, conn: Connection, items: Collection[Settle]) -> set[UUID]:
        """Ends leases; returns the lanes whose lease was still the caller's. Nothing changes on the others.

        Raises `asyncpg.CheckViolationError` when more is said to be done than waits.
        """
        return await self._lanes(conn, "settle", *settle_columns(items))

    async def release(self, conn: Connection, leases: Collection[Lease], *, due_in: timedelta) -> set[UUID]:
        """Ends leases with nothing done, without counting an attempt."""
        items = [Settle(each.lane_id, each.fence, 0, due_in, each.attempts - 1, delays=None) for each in leases]
        return await self.settle(conn, items)

    async def park(self, conn: Connection, leases: Collection[Lease], whom: Sequence[str]) -> set[UUID]:
        """Ends leases with nothing done: each lane has no due time until it is woken for the one that it waits for."""
        return await self._lanes(conn, "park", *_columns(leases), whom, [lease.attempts - 1 for lease in leases])

    async def wake(self, conn: Connection, tenant_id: str, whom: str, limit: int) -> set[UUID]:
        """Makes up to `limit` parked lanes due at once."""
        return await self._lanes(conn, "wake", tenant_id, whom, limit)

    async def renew(self, conn: Connection, leases: Collection[Held], ttl: timedelta) -> set[UUID]:
        """Gives each lease at least `ttl` from now.

        Returns those still held, even if run out but not taken.
        """
        return await self._lanes(conn, "renew", *_columns(leases), ttl.total_seconds())

    async def set_mode(self, conn: Connection, tenant_id: str, lane_id: UUID, mode: int) -> bool:
        """Says how a lane's items are to be treated from the next claim on; False when there is no such lane."""
        return bool(await self._lanes(conn, "set_mode", tenant_id, lane_id, mode))

    async def _lanes(self, conn: Connection, name: str, *arguments: object) -> set[UUID]:
        return {row[0] for row in await conn.fetch(self._sql[name], *arguments)}


def _room(room: Room) -> tuple[object, ...]:
    """The arguments of `claim` after its lease, in their order."""
    columns = list(zip(*room.groups, strict=True)) or [(), (), (), ()]
    fairness = room.fairness
    return (
        *columns,
        room.asking,
        fairness.tenant,
        fairness.share,
        fairness.asking,
        room.alone,
        WINDOW,
        *room.after,
        WALK,
    )


def lease_of(row: asyncpg.Record) -> Lease:
    """The lease of a lane that `claim` or `append_leased` has leased."""
    # The claim itself counts an attempt only of a suspect; of other lanes whoever ends the lease does, after a failure.
    attempts, losses = row["attempts"], row["losses"]
    return Lease(
        lane_id=row["lane_id"],
        tenant_id=row["tenant_id"],
        fence=row["fence"],
        pending=row["pending"],
        done_seq=row["done_seq"],
        attempts=attempts if losses >= LOST_TOO_OFTEN else attempts + 1,
        data_version=row["data_version"],
        lease_until=row["lease_until"],
        expired=row["expired"],
        share=row["share"],
        losses=losses,
        delays=row["delays"],
        priority=Priority(row["priority"]),
        mode=row["mode"],
        timers=unpack(row["timers"]),
    )


def _columns(leases: Collection[Held] | Collection[Lease]) -> tuple[Sequence[UUID], Sequence[int]]:
    return [lease.lane_id for lease in leases], [lease.fence for lease in leases]


def _merged(items: Iterable[Append]) -> dict[UUID, Append]:
    """One item per lane: counts add up, the earliest time and the highest priority hold."""
    merged: dict[UUID, Append] = {}
    for item in items:
        known = merged.get(item.lane_id)
        if known is not None:
            item = replace(
                item,
                count=known.count + item.count,
                due_in=min(known.due_in, item.due_in),
                priority=min(known.priority, item.priority),
            )
        merged[item.lane_id] = item
    return merged


def _appended(merged: Mapping[UUID, Append]) -> tuple[Sequence[object], ...]:
    """The arguments of `append`, which are the first ones of `append_leased`."""
    items = merged.values()
    return (
        list(merged),
        [item.tenant_id for item in items],
        [item.count for item in items],
        [item.due_in.total_seconds() for item in items],
        [item.share for item in items],
        [item.priority for item in items],
    )


def settle_columns(items: Collection[Settle]) -> tuple[Sequence[object], ...]:
    """The arguments of `settle`, for statements that are built around it."""
    return (
        [item.lane_id for item in items],
        [item.fence for item in items],
        [item.done for item in items],
        [None if item.due_in is None else item.due_in.total_seconds() for item in items],
        [item.attempts for item in items],
        [item.data_version for item in items],
        [item.delays for item in items],
        [None if item.timers is None else pack(item.timers) for item in items],
        [None if item.timers is None else first_at(item.timers) for item in items],
    )
