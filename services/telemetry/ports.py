"""What the use cases need from the store, and how it fails."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from services.telemetry.domain.traces import Filters, Piece, Position, Summary, Upkeep


class StoreAway(Exception):
    """The database cannot be reached. Try again later."""


class StoreRefuses(Exception):
    """The database will never take these pieces."""


class Store(Protocol):
    """Keeps pieces of traces."""

    async def write(self, pieces: Sequence[Piece], now: datetime) -> None:
        """Stores pieces. Raises StoreAway or StoreRefuses."""

    async def of_trace(self, trace_id: bytes, tenant_id: str) -> list[Piece]:
        """Returns the pieces of a trace that may hold spans of a tenant, and one of another tenant's if there is."""

    async def find(self, filters: Filters, after: Position | None, limit: int) -> list[Summary]:
        """Returns at most `limit` traces of a tenant, newest first."""

    async def now(self) -> datetime:
        """Returns the time of the database's clock. Raises StoreAway or StoreRefuses."""

    async def days(self) -> Mapping[date, bool]:
        """Returns the days that have a partition, and whether each is thinned. Raises StoreAway or StoreRefuses."""

    async def keep_up(self, work: Upkeep, slow: timedelta) -> None:
        """Makes, thins out and drops partitions. Traces that took longer than `slow` are important.

        Raises StoreAway or StoreRefuses.
        """
