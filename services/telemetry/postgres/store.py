"""Keeps pieces in PostgreSQL, written by COPY into one partition a day."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import zstandard

from services.runtime import postgres
from services.runtime.logs import describe
from services.runtime.queries import load_queries, tenants_in
from services.telemetry.domain.traces import Filters, Piece, Position, Summary, Upkeep, place
from services.telemetry.ports import StoreAway, StoreRefuses

if TYPE_CHECKING:
    from services.runtime.postgres import Pool, PoolConnection

_FILE = Path(__file__).with_name("queries.sql")
_TENANTS = tenants_in("telemetry.pieces")
SQL = load_queries(_FILE, p_failed="", e_failed="", **_TENANTS)
_FAILED = load_queries(_FILE, p_failed="AND p.has_error", e_failed="AND e.has_error", **_TENANTS)

_COLUMNS = (
    "trace_id",
    "tenant_id",
    "name",
    "started_at",
    "ended_at",
    "stored_at",
    "span_count",
    "has_error",
    "services",
    "spans",
    "outside",
)
_AWAY = (OSError, *postgres.AWAY, asyncpg.LockNotAvailableError)
_FIRST = Position(datetime.max.replace(tzinfo=UTC), b"")
_THINNING_TIMEOUT = 3600.0


class PostgresStore:
    """Implements `ports.Store`."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    async def write(self, pieces: Sequence[Piece], now: datetime) -> None:
        records = [self._record(piece, now) for piece in pieces]
        with failures():
            try:
                await self._copy(records)
            except asyncpg.CheckViolationError:  # no partition: the process slept for days, or the clock was moved
                days = {record[3].date() for record in records}
                await self.keep_up(Upkeep(create=tuple(sorted(days)), thin=(), drop=()), timedelta())
                await self._copy(records)

    async def of_trace(self, trace_id: bytes, tenant_id: str) -> list[Piece]:
        return [self._piece(row) for row in await self._pool.fetch(SQL["of_trace"], trace_id, tenant_id)]

    async def find(self, filters: Filters, after: Position | None, limit: int) -> list[Summary]:
        query = (_FAILED if filters.errors_only else SQL)["find"]
        at = after or _FIRST
        rows = await self._pool.fetch(
            query, filters.tenant_id, at.started_at, at.trace_id, filters.service, filters.min_duration, limit
        )
        return [
            Summary(
                position=Position(row["position"], row["trace_id"]),
                name=row["name"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                span_count=row["span_count"],
                has_error=row["has_error"],
            )
            for row in rows
        ]

    async def now(self) -> datetime:
        with failures():
            stored: datetime = await self._pool.fetchval("SELECT now()")
            return stored

    async def days(self) -> Mapping[date, bool]:
        with failures():
            return {row["day"]: row["thinned"] for row in await self._pool.fetch(SQL["days"])}

    async def keep_up(self, work: Upkeep, slow: timedelta) -> None:
        """Changes each day in a transaction of its own, so that a day that fails holds up no other. Raises the first
        failure in the end.
        """
        steps = [partial(create, day=day) for day in work.create]
        steps += [partial(drop, day=day) for day in work.drop]
        steps += [partial(thin, day=day, slow=slow) for day in work.thin]
        failed: list[Exception] = []
        with failures():
            async with self._pool.acquire() as connection:
                for step in steps:
                    try:
                        async with connection.transaction():
                            await connection.execute(SQL["take_turns"])
                            await step(connection)
                    except Exception as error:
                        failed.append(error)
            if failed:
                raise failed[0]

    async def _copy(self, records: Sequence[tuple[object, ...]]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.copy_records_to_table(
                "pieces", schema_name="telemetry", records=records, columns=_COLUMNS, timeout=30.0
            )

    def _record(self, piece: Piece, now: datetime) -> tuple[bytes, str, str, datetime, datetime, *tuple[object, ...]]:
        started_at = place(piece.started_at, now)
        return (
            piece.trace_id,
            piece.tenant_id,
            piece.name,
            started_at,
            started_at + (piece.ended_at - piece.started_at),
            now,
            piece.span_count,
            piece.has_error,
            piece.services,
            self._compressor.compress(piece.spans),
            piece.outside,
        )

    def _piece(self, row: asyncpg.Record) -> Piece:
        return Piece(
            trace_id=row["trace_id"],
            tenant_id=row["tenant_id"],
            name=row["name"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            span_count=row["span_count"],
            has_error=row["has_error"],
            services=tuple(row["services"]),
            spans=self._decompressor.decompress(row["spans"]),
            outside=row["outside"],
        )


@contextmanager
def failures() -> Iterator[None]:
    """Turns the driver's failures into those that the use cases know."""
    try:
        yield
    except (StoreAway, StoreRefuses):
        raise
    except _AWAY as error:
        raise StoreAway(describe(error)) from error
    except Exception as error:  # anything else is the fault of the data
        raise StoreRefuses(describe(error)) from error


def table_of(day: date) -> str:
    return f"telemetry.pieces_{day:%Y%m%d}"


def midnight(day: date) -> str:
    """Returns the beginning of a day as SQL."""
    return f"timestamptz '{datetime.combine(day, time(), UTC).isoformat()}'"


async def create(connection: "PoolConnection", day: date) -> None:
    begin, end = (midnight(each).removeprefix("timestamptz ") for each in (day, day + timedelta(days=1)))
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table_of(day)} PARTITION OF telemetry.pieces"
        f" FOR VALUES FROM ({begin}) TO ({end}) WITH (toast_tuple_target = 8160)"
    )
    await connection.execute(SQL["add_day"], day)


async def drop(connection: "PoolConnection", day: date) -> None:
    await connection.execute("SET LOCAL lock_timeout = '5s'")
    await connection.execute(f"DROP TABLE IF EXISTS {table_of(day)}")
    await connection.execute(SQL["forget_day"], day)


async def thin(connection: "PoolConnection", day: date, slow: timedelta) -> None:
    """Empties the partition and puts back what stays, which frees the space at once. A DELETE would not."""
    words = {"table": table_of(day), "begin": midnight(day), "slow": f"interval '{slow.total_seconds():f} seconds'"}
    query = SQL["keep_important"]
    for word, value in words.items():
        query = query.replace("{" + word + "}", value)
    await connection.execute(query, timeout=_THINNING_TIMEOUT)
    await connection.execute("SET LOCAL lock_timeout = '5s'")
    await connection.execute(f"TRUNCATE {table_of(day)}")
    await connection.execute(
        f"INSERT INTO {table_of(day)} SELECT * FROM important",  # noqa: S608 - the name of a day's table
        timeout=_THINNING_TIMEOUT,
    )
    await connection.execute(SQL["mark_thinned"], day)
