"""Reads for people: on connections of their own, each with a time limit, so that no page of an operator's takes a
connection or the time from webhooks and workers."""

from typing import TYPE_CHECKING

import asyncpg

from services.kernel.errors import Kind, ParleyError

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

PATIENCE = 2.0
"""Seconds that a read waits for one of the connections."""
COUNTED = 10_000
"""Counts stop here: an exact one of millions takes seconds, and tells nobody more."""


class ReadPool:
    """Runs reads on a pool whose connections cancel what takes too long."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows. Raises READ_TOO_LONG, and OVERLOADED when all connections are busy with other reads."""
        try:
            async with self._pool.acquire(timeout=PATIENCE) as connection:
                return await connection.fetch(query, *arguments)
        except asyncpg.QueryCanceledError as error:
            message = "The read took too long and was stopped; narrow it down, by conversation, channel or state."
            raise ParleyError(Kind.DEADLINE, "READ_TOO_LONG", message) from error
        except TimeoutError as error:
            if self._pool.get_idle_size() or self._pool.get_size() < self._pool.get_max_size():
                raise  # it could not connect
            message = "Other reads take all the time that there is for them; try again in a moment."
            raise ParleyError(Kind.EXHAUSTED, "OVERLOADED", message, retry_after=1.0) from error

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None
