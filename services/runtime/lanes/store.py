"""Lanes in Postgres: every call is one statement over arrays, inside the caller's transaction."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.runtime.lanes.types import Append, Held, Lease, Settle
from services.runtime.queries import load_queries

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_HERE = Path(__file__).parent


class Lanes:
    """The lanes of one schema (table `<schema>.lanes`).

    No call opens a transaction of its own, so that lanes change together with the caller's rows. All calls
    lock lanes in key order; a transaction that locks lanes in several calls gives up that protection.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(_HERE / "queries.sql", schema=schema)

    @staticmethod
    def ddl(schema: str) -> str:
        """The table and its index, for the service's migration."""
        return (_HERE / "schema.sql").read_text().replace("{schema}", schema)

    async def append(self, conn: Connection, items: Iterable[Append]) -> dict[UUID, int]:
        """Adds waiting messages; lanes come to be by it. Returns the first sequence given to each lane.

        Sequences come from the locked row, so they stand in the order of commit. Items of one lane are
        merged.
        """
        merged = _merged(items)
        rows = await conn.fetch(
            self._sql["append"],
            list(merged),
            [item.tenant_id for item in merged.values()],
            [item.count for item in merged.values()],
            [item.due_in.total_seconds() for item in merged.values()],
        )
        return {lane_id: next_seq - merged[lane_id].count for lane_id, next_seq in rows}

    async def claim(self, conn: Connection, *, holder: str, limit: int, ttl: timedelta) -> list[Lease]:
        """Leases up to `limit` lanes that are due, the longest due first, past those somebody has locked."""
        rows = await conn.fetch(self._sql["claim"], holder, limit, ttl.total_seconds())
        return [
            Lease(
                lane_id=row["lane_id"],
                tenant_id=row["tenant_id"],
                fence=row["fence"],
                pending=row["pending"],
                done_seq=row["done_seq"],
                attempts=row["attempts"],
                data_version=row["data_version"],
                lease_until=row["lease_until"],
                expired=row["expired"],
            )
            for row in rows
        ]

    async def hold(self, conn: Connection, leases: Collection[Held]) -> set[UUID]:
        """Locks the lanes until the transaction ends, so that nobody takes them; returns those still held."""
        return await self._lanes(conn, "hold", *_columns(leases))

    async def settle(self, conn: Connection, items: Collection[Settle]) -> set[UUID]:
        """Ends leases; returns the lanes whose lease was still the caller's. Nothing changes on the others.

        Raises `asyncpg.CheckViolationError` when more is said to be done than waits.
        """
        return await self._lanes(
            conn,
            "settle",
            [item.lane_id for item in items],
            [item.fence for item in items],
            [item.done for item in items],
            [None if item.due_in is None else item.due_in.total_seconds() for item in items],
            [item.attempts for item in items],
            [item.data_version for item in items],
        )

    async def release(self, conn: Connection, leases: Collection[Lease], *, due_in: timedelta) -> set[UUID]:
        """Lets leases go with nothing done and no attempt counted."""
        items = [Settle(each.lane_id, each.fence, 0, due_in, each.attempts - 1) for each in leases]
        return await self.settle(conn, items)

    async def renew(self, conn: Connection, leases: Collection[Held], ttl: timedelta) -> set[UUID]:
        """Gives each lease at least `ttl` from now.

        Returns those still held, even if run out but not taken.
        """
        return await self._lanes(conn, "renew", *_columns(leases), ttl.total_seconds())

    async def _lanes(self, conn: Connection, name: str, *arguments: object) -> set[UUID]:
        return {row[0] for row in await conn.fetch(self._sql[name], *arguments)}


def _columns(leases: Collection[Held]) -> tuple[Sequence[UUID], Sequence[int]]:
    return [lease.lane_id for lease in leases], [lease.fence for lease in leases]


def _merged(items: Iterable[Append]) -> dict[UUID, Append]:
    """One item per lane: counts add up, the earliest time holds."""
    merged: dict[UUID, Append] = {}
    for item in items:
        known = merged.get(item.lane_id)
        if known is not None:
            item = replace(item, count=known.count + item.count, due_in=min(known.due_in, item.due_in))
        merged[item.lane_id] = item
    return merged
