"""What the use cases need of the store, and how it fails."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from services.telemetry.domain.traces import Filters, Piece, Position, Summary, Upkeep


class StoreAway(Exception):
    """The database cannot be reached; what failed may be tried again."""


class StoreRefuses(Exception):
    """The database does not take these pieces, now or later."""


class Store(Protocol):
    """Where pieces are kept."""

    async def write(self, pieces: Sequence[Piece], now: datetime) -> None:
        """Store pieces. Raises StoreAway or StoreRefuses."""

    async def of_trace(self, trace_id: bytes, tenant_id: str) -> list[Piece]:
        """The pieces of a trace that a tenant may see something of; and if there are others of ours, one of them."""

    async def find(self, filters: Filters, after: Position | None, limit: int) -> list[Summary]:
        """Traces of a tenant, newest first, `limit` at most."""

    async def now(self) -> datetime:
        """What time the database has. Raises StoreAway or StoreRefuses."""

    async def days(self) -> Mapping[date, bool]:
        """The days that have a partition, and whether each is thinned. Raises StoreAway or StoreRefuses."""

    async def keep_up(self, work: Upkeep, slow: timedelta) -> None:
        """Make, thin out and drop partitions. `slow`: traces that took longer are important. Raises StoreAway or
        StoreRefuses.
        """
