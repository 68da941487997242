"""Removes rows at the end of their retention, in small steps and by one process at a time, and records how many."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import asyncpg

from services.kernel.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.partitions import Partitions, Table, first_id

if TYPE_CHECKING:
    from services.runtime.postgres import Pool, PoolConnection

log = get_logger(__name__)

AT_ONCE = 500
"""The most rows that one step removes. A partition is dropped whole."""
PAUSE = 0.2
"""Seconds between two steps."""
LOOKED_AT = 2_000
"""The number of rows that one step looks at where no index finds the old ones."""


class Step(NamedTuple):
    """The result of a step: rows removed, whether more is to be done, and where the next step goes on (None: from the
    start)."""

    removed: int
    more: bool
    reached: UUID | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that is removed step by step, each in a transaction. A step is told where the one before ended."""

    name: str
    step: "Callable[[PoolConnection, UUID | None], Awaitable[Step]]"


Plan = Callable[[datetime], Awaitable[Sequence[Task]]]
"""Returns the tasks of a time."""


class Retention:
    """Works through the tasks of one schema. `<schema>.upkeep` and the log say what each has removed.

    Ages are counted from the earlier of this process's clock and the database's: a clock that is ahead must not remove
    what nobody can bring back.
    """

    def __init__(self, schema: str, pool: "Pool", clock: Clock, plan: Plan) -> None:
        self._schema = schema
        self._pool = pool
        self._clock = clock
        self._plan = plan
        self._left: deque[Task] = deque()
        self._removed = 0

    async def look(self) -> bool:
        """Does one step; returns whether more are due now. While another process is at it, this one waits. A task that
        fails is left for the next time, so that it holds up no other."""
        if not self._left:
            stored: datetime = await self._pool.fetchval("SELECT now()")
            self._left.extend(await self._plan(min(self._clock.now(), stored)))
            self._removed = 0
        if not self._left:
            return False
        task = self._left[0]
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                step = await self._take(connection, task)
        except asyncpg.LockNotAvailableError:
            log.info("a partition is kept a while longer: somebody reads the table, a backup maybe", task=task.name)
            step = Step(0, more=False)
        except Exception:
            self._left.popleft()
            self._removed = 0
            raise
        if step is None:
            self._left.clear()
            return False
        self._removed += step.removed
        if not step.more:
            if self._removed:
                log.info("removed what is older than it is kept", task=task.name, rows=self._removed, what=step.detail)
            self._removed = 0
            self._left.popleft()
        return bool(self._left)

    async def _take(self, connection: "PoolConnection", task: Task) -> Step | None:
        lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('parley retention ' || $1, 0))"
        if not await connection.fetchval(lock, self._schema):
            return None
        query = f"SELECT reached FROM {self._schema}.upkeep WHERE task = $1"  # noqa: S608
        step = await task.step(connection, await connection.fetchval(query, task.name))
        await connection.execute(
            f"INSERT INTO {self._schema}.upkeep AS known (task, reached, removed, detail) VALUES ($1, $2, $3, $4)"  # noqa: S608
            " ON CONFLICT (task) DO UPDATE SET reached = excluded.reached, removed = known.removed + excluded.removed,"
            " done_at = now(), detail = CASE WHEN excluded.detail = '' THEN known.detail ELSE excluded.detail END",
            task.name,
            step.reached,
            step.removed,
            step.detail,
        )
        return step


def days_ago(now: datetime, days: int) -> datetime:
    """Returns the time so many days ago, but none before 1970."""
    return now - min(timedelta(days=days), timedelta(seconds=now.timestamp()))


def longest(days: Sequence[int]) -> int | None:
    """Returns the largest number of days; None if one of them is 0, which is for ever, or there is none."""
    return max(days) if days and 0 not in days else None


def dropping(partitions: Partitions, table: Table, before: datetime) -> Sequence[Task]:
    """Returns the tasks that drop the stretches that ended before a time, and the rows of the rest that are as old."""

    async def drop(connection: "PoolConnection", _: UUID | None) -> Step:
        dropped = await partitions.drop_oldest(connection, table, before)
        if dropped is None:
            return Step(0, more=False)
        detail = f"{dropped.stretch.name}, about {dropped.rows} rows, {dropped.size} bytes; {dropped.kept} rows kept"
        return Step(dropped.rows, True, detail=detail)

    async def trim(connection: "PoolConnection", _: UUID | None) -> Step:
        removed = await partitions.trim_rest(connection, table, first_id(before), AT_ONCE)
        return Step(removed, removed == AT_ONCE)

    return [Task(f"{table.name}: stretches", drop), Task(f"{table.name}: rest", trim)]


def deleting(name: str, query: str, *arguments: object) -> Task:
    """Returns a task that runs a statement until it deletes fewer than $1 rows. The statement returns the number."""

    async def step(connection: "PoolConnection", _: UUID | None) -> Step:
        removed = int(await connection.fetchval(query, AT_ONCE, *arguments) or 0)
        return Step(removed, removed >= AT_ONCE)

    return Task(name, step)


def walking(name: str, query: str, *arguments: object) -> Task:
    """Returns a task that runs a statement, which looks at the next $2 keys after $1 and deletes some. The statement
    returns `walked`, `last` and `removed`."""

    async def step(connection: "PoolConnection", reached: UUID | None) -> Step:
        row = await connection.fetchrow(query, reached or UUID(int=0), LOOKED_AT, *arguments)
        assert row is not None
        more = row["walked"] == LOOKED_AT
        return Step(row["removed"], more, row["last"] if more else None)

    return Task(name, step)
