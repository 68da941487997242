"""Tells which messages are done, for all whose callers wait at once."""

from collections.abc import Collection
from uuid import UUID

from services.dialog.postgres.database import Database

MOST = 1000
"""Messages that one statement looks at."""
_SQL = """
SELECT message_id
FROM unnest($1::text[], $2::uuid[]) AS waiting (tenant_id, message_id)
JOIN dialog.messages AS message USING (tenant_id, message_id)
WHERE message.state IN (3, 5)
"""


class PostgresAnswered:
    """Looks messages up by their keys, and reads nothing else of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, waiting: Collection[tuple[str, UUID]]) -> list[UUID]:
        """Those of the messages, each by tenant and id, that are COMPLETED or TERMINAL."""
        keys = list(waiting)
        found: list[UUID] = []
        for begin in range(0, len(keys), MOST):
            some = keys[begin : begin + MOST]
            rows = await self._database.fetch(_SQL, [key[0] for key in some], [key[1] for key in some])
            found += [row["message_id"] for row in rows]
        return found
