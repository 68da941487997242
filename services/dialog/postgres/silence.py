"""Ends dialogs that were left in silence, so that analytics learns where people drop off."""

from services.dialog.postgres.database import Database
from services.dialog.postgres.lanes import load

AT_ONCE = 500
"""Dialogs that one statement looks at."""


class PostgresSilence:
    """A sweep. Any number of processes may do it at the same time, and die in it: each dialog is ended at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("silence")["sweep"]

    async def sweep(self) -> bool:
        """Ends the next dialogs; whether there may be more."""
        row = await self._database.fetchrow(self._sql, AT_ONCE)
        return row is not None and row["count"] == AT_ONCE
