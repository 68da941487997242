"""Tells which messages are done, for all whose callers wait at once."""

from collections.abc import Collection
from uuid import UUID

from services.dialog.postgres.database import Database
from services.dialog.postgres.queries import load

MOST = 1000
"""Messages that one statement looks at."""


class PostgresAnswered:
    """One statement for all who wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("answered")["answered"]

    async def __call__(self, waiting: Collection[tuple[str, UUID]]) -> list[UUID]:
        """Those of the messages, each by tenant and id, that are COMPLETED or TERMINAL."""
        keys = list(waiting)
        found: list[UUID] = []
        for begin in range(0, len(keys), MOST):
            some = keys[begin : begin + MOST]
            rows = await self._database.fetch(self._sql, [key[0] for key in some], [key[1] for key in some])
            found += [row["message_id"] for row in rows]
        return found
