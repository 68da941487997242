"""Tables that are partitioned by time, in stretches that are made ahead of time and dropped whole when they are old.

The key of a partition is a UUID of version 7. Each table also has a partition `<table>_rest`, which takes the rows that
no stretch is there for, so that a missing stretch refuses nothing.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.runtime.postgres import Connection, PoolConnection

AHEAD = timedelta(days=7)
"""How far ahead stretches are made."""
MOVED = 10_000
"""The most rows of `_rest` that a new stretch takes over. A range with more rows stays there until it is old."""
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
_BOUND = re.compile(r"FROM \((?:MINVALUE|'([0-9a-f-]{36})')\) TO \('([0-9a-f-]{36})'\)")


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is kept in stretches of so many days.

    `key` is the column by which it is partitioned. `kept` is a condition in SQL on the relation `item`. It is true for
    rows that are still needed and outlive their stretch.
    """

    name: str
    key: str
    days: int
    kept: str = "false"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A partition of the ids from `begin` (None: the first) up to, but not including, `end`."""

    name: str
    begin: UUID | None
    end: UUID


@dataclass(frozen=True, slots=True)
class Dropped:
    """A stretch that was dropped. `rows` is PostgreSQL's estimate."""

    stretch: Stretch
    rows: int
    size: int
    kept: int


def first_id(at: datetime) -> UUID:
    """Returns the smallest id of a millisecond, which is below all UUIDs of version 7 that are made from then on."""
    return UUID(int=(int(at.timestamp() * 1000)) << 80)


def time_of(key: UUID) -> datetime:
    """Returns the time at which a UUID of version 7 was made."""
    return datetime.fromtimestamp((key.int >> 80) / 1000, UTC)


def extent(keys: Collection[UUID]) -> tuple[UUID, UUID]:
    """Returns the smallest and the largest key. A statement that is given both opens only the stretches between."""
    return (min(keys), max(keys)) if keys else (UUID(int=0), UUID(int=0))


def stretches(now: datetime, days: int) -> list[tuple[datetime, datetime]]:
    """Returns the stretches of now and of the time ahead. They begin at multiples of their length since 1970, so that
    every process finds the same."""
    length = timedelta(days=days)
    begin = datetime.fromtimestamp(now.timestamp() // length.total_seconds() * length.total_seconds(), UTC)
    found = []
    while begin <= now + AHEAD:
        found.append((begin, begin + length))
        begin += length
    return found


class Partitions:
    """The stretches of the tables of one schema. Every call works in the caller's transaction."""

    def __init__(self, schema: str, tables: Sequence[Table]) -> None:
        self._schema = schema
        self.tables = tables

    async def make(self, connection: "Connection | PoolConnection", now: datetime) -> list[str]:
        """Makes the stretches that are missing and returns their names. Waits for other processes that do the same."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('parley partitions ' || $1, 0))", self._schema
        )
        await connection.execute(_LOCK_TIMEOUT)
        made = []
        for table in self.tables:
            known = await self.list(connection, table)
            for begin, end in stretches(now, table.days):
                low, high = first_id(begin), first_id(end)
                if any(each.end > low and (each.begin is None or each.begin < high) for each in known):
                    continue
                name = f"{table.name}_{begin:%Y%m%d}"
                if await self._make(connection, table, Stretch(name, low, high)):
                    made.append(name)
        return made

    async def list(self, connection: "Connection | PoolConnection", table: Table) -> list[Stretch]:
        """Returns the stretches of a table, the oldest first, without the rest."""
        rows = await connection.fetch(
            "SELECT part.relname, pg_get_expr(part.relpartbound, part.oid) AS bound"
            " FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid WHERE inhparent = $1::text::regclass",
            f"{self._schema}.{table.name}",
        )
        found = []
        for row in rows:
            bound = _BOUND.search(row["bound"] or "")  # NULL: dropped since
            if bound:
                found.append(Stretch(row["relname"], UUID(bound[1]) if bound[1] else None, UUID(bound[2])))
        return sorted(found, key=lambda each: each.end)

    async def drop_oldest(
        self, connection: "Connection | PoolConnection", table: Table, before: datetime
    ) -> Dropped | None:
        """Drops the oldest stretch if it ended before a time; returns None if there is none to drop.

        Rows that are still needed move to the rest. Raises `asyncpg.LockNotAvailableError` while somebody reads the
        table for long, such as a backup: try again later.
        """
        stretch = next(iter(await self.list(connection, table)), None)
        if stretch is None or stretch.end > first_id(before):
            return None
        parent, part = f"{self._schema}.{table.name}", f'{self._schema}."{stretch.name}"'
        rows, size = await connection.fetchrow(
            "SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class"
            " WHERE oid = $1::text::regclass",
            part,
        ) or (0, 0)
        await connection.execute(_LOCK_TIMEOUT)
        await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {part}")
        columns = await self._columns(connection, table)
        kept = await connection.execute(
            f"INSERT INTO {parent} ({columns}) SELECT {columns} FROM {part} AS item WHERE {table.kept}"  # noqa: S608
        )
        await connection.execute(f"DROP TABLE {part}")
        return Dropped(stretch, rows, size, int(kept.split()[-1]))

    async def trim_rest(self, connection: "Connection | PoolConnection", table: Table, before: UUID, limit: int) -> int:
        """Delete up to `limit` rows of the rest that are older than an id and not needed; how many.

        They are locked first, and judged once more then: one may have come to be needed after it was chosen. What
        somebody else has locked is left for the next time.
        """
        rest = f"{self._schema}.{table.name}_rest"
        found = await connection.fetch(
            f"SELECT item.ctid FROM {rest} AS item WHERE item.{table.key} < $1 AND NOT ({table.kept})"  # noqa: S608
            " LIMIT $2 FOR UPDATE OF item SKIP LOCKED",
            before,
            limit,
        )
        deleted = await connection.execute(
            f"DELETE FROM {rest} AS item WHERE item.ctid = ANY ($1::tid[]) AND NOT ({table.kept})",  # noqa: S608
            [row["ctid"] for row in found],
        )
        return int(deleted.split()[-1])

    async def _make(self, connection: "Connection | PoolConnection", table: Table, stretch: Stretch) -> bool:
        """Makes a stretch and attaches it when it is complete, blocking no writer. False: too much is in the rest."""
        parent, rest = f"{self._schema}.{table.name}", f"{self._schema}.{table.name}_rest"
        part = f'{self._schema}."{stretch.name}"'
        inside = f"{table.key} >= '{stretch.begin}' AND {table.key} < '{stretch.end}'"
        there = await connection.fetchval(
            f"SELECT count(*) FROM (SELECT FROM {rest} WHERE {inside} LIMIT {MOVED + 1}) AS found"  # noqa: S608
        )
        if there > MOVED:
            return False
        options = await connection.fetchval(
            "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::text::regclass", rest
        )
        storage = f" WITH ({options})" if options else ""
        await connection.execute(f"CREATE TABLE {part} (LIKE {parent} INCLUDING DEFAULTS INCLUDING GENERATED){storage}")
        if there:
            await connection.execute(f"LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE")
            columns = await self._columns(connection, table)
            await connection.execute(
                f"WITH moved AS (DELETE FROM {rest} WHERE {inside} RETURNING {columns})"  # noqa: S608
                f" INSERT INTO {part} ({columns}) SELECT * FROM moved"
            )
        await connection.execute(
            f"ALTER TABLE {parent} ATTACH PARTITION {part} FOR VALUES FROM ('{stretch.begin}') TO ('{stretch.end}')"
        )
        return True

    async def _columns(self, connection: "Connection | PoolConnection", table: Table) -> str:
        """Returns the columns that can be written."""
        names: str = await connection.fetchval(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            f"{self._schema}.{table.name}",
        )
        return names
