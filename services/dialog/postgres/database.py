"""Statements on a pool, each in a transaction of its own, with failures that use cases understand."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from services.kernel.errors import Kind, ParleyError
from services.runtime.errors import to_parley_error
from services.runtime.postgres import retry_deadlocks

if TYPE_CHECKING:
    from services.runtime.postgres import Pool, PoolConnection

T = TypeVar("T")
Rows = list[asyncpg.Record]

_NOT_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
PATIENCE = 2.0
"""Seconds that a caller waits for a free connection."""


class Database:
    """Runs statements. When Postgres is away, they raise STORAGE_UNAVAILABLE within a few seconds."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    async def fetch(self, query: str, *arguments: object) -> Rows:
        """The rows of one statement, which is run again when it was the victim of a deadlock."""

        async def run(connection: "PoolConnection") -> Rows:
            return await connection.fetch(query, *arguments)

        return await self.run(run)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def run(self, work: "Callable[[PoolConnection], Awaitable[T]]") -> T:
        """Run `work` on a connection; without a transaction around it."""

        async def attempt() -> T:
            # A time limit costs a task, so only callers who will have to wait get one.
            patience = None if self.pool.get_idle_size() else PATIENCE
            async with self.pool.acquire(timeout=patience) as connection:
                return await work(connection)

        return await self._translated(attempt)

    async def transaction(self, work: "Callable[[PoolConnection], Awaitable[T]]") -> T:
        """Run `work` in a transaction; again from the start when it was the victim of a deadlock."""

        async def attempt(connection: "PoolConnection") -> T:
            async with connection.transaction():
                return await work(connection)

        return await self.run(attempt)

    async def _translated(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await retry_deadlocks(attempt)
        except _NOT_TEXT as error:
            message = "A text holds a character that cannot be stored; NUL is one."
            raise ParleyError(Kind.INVALID, "INVALID_FIELD", message) from error
        except Exception as error:
            told: Any = to_parley_error(error)
            if told is error or told.reason != "STORAGE_UNAVAILABLE":
                raise
            raise told from error


def columns(rows: Sequence[tuple[object, ...]], width: int) -> list[Sequence[object]]:
    """Rows as columns, as `unnest` takes them; as many as `width` even of no rows."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


async def or_fail_together(work: Awaitable[Rows]) -> Rows | ParleyError:
    """The rows of a batch, or why the store is away. Other failures are raised: a batch with a bad item is repeated
    item by item, which would only make waiting longer for a store that does not answer."""
    try:
        return await work
    except ParleyError as error:
        if error.kind is not Kind.UNAVAILABLE:
            raise
        return error
