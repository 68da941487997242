"""Connections for the reads of operators. They are apart from those of webhooks and workers, and each read has a time
limit."""

from typing import TYPE_CHECKING

import asyncpg

from services.kernel.errors import Kind, ParleyError

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

PATIENCE = 2.0
"""Seconds that a read waits for one of the connections."""
COUNTED = 10_000
"""Counts stop here. An exact count of millions takes seconds and is of no more use."""


class ReadPool:
    """Runs reads on a pool whose connections cancel reads that take too long."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Returns the rows. Raises READ_TOO_LONG, and OVERLOADED if all connections are busy with other reads."""
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
        """Returns the first row, or None."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None
