"""What the sink keeps, and for how long: pure types and decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta


@dataclass(frozen=True)
class Piece:
    """Spans of one trace that were stored together: most traces are one piece.

    `tenant_id` and `name` (of the root span) are empty when no span of the piece told. `spans` is a serialised
    `opentelemetry.proto.trace.v1.TracesData`.
    """

    trace_id: bytes
    tenant_id: str
    name: str
    started_at: datetime
    ended_at: datetime
    span_count: int
    has_error: bool
    services: tuple[str, ...]
    spans: bytes
    outside: bool = False
    """Whether a tenant's own service sent them; else one of ours."""


@dataclass(frozen=True)
class Filters:
    """Which traces to find."""

    tenant_id: str
    service: str
    errors_only: bool
    min_duration: timedelta


@dataclass(frozen=True)
class Position:
    """Where a trace stands among those of its tenant, newest first."""

    started_at: datetime
    trace_id: bytes


@dataclass(frozen=True)
class Summary:
    """One trace in short."""

    position: Position
    name: str
    started_at: datetime
    ended_at: datetime
    span_count: int
    has_error: bool


@dataclass(frozen=True)
class DaysKept:
    """How many days traces are kept: all of them, and the important ones (failed or slow)."""

    all_days: int
    important_days: int
    slow: timedelta


@dataclass(frozen=True)
class Upkeep:
    """What to do to the daily partitions."""

    create: tuple[date, ...]
    thin: tuple[date, ...]
    drop: tuple[date, ...]


AHEAD = 2
"""Days for which partitions are made in advance, so that a night without upkeep loses nothing."""


def upkeep(today: date, past: date, existing: Mapping[date, bool], kept: DaysKept) -> Upkeep:
    """The partitions to make, to thin out to what is important, and to drop.

    `today` is our own clock's, and what is written goes by it; `past` is what is old as of: the earlier of our day and
    the database's, so that a clock that is ahead by mistake removes nothing.
    `existing`: the days that have a partition, and whether it is thinned already. Yesterday has one too: a trace that
    began before midnight arrives after it. A day is old when its last moment is: day 1, kept for 7 days, is thinned
    on day 9.
    """
    wanted = [today + timedelta(days=offset) for offset in range(-1, AHEAD + 1)]
    important = max(kept.important_days, kept.all_days)
    dropped = {day for day in existing if (past - day).days > important}
    thinned = {day for day, thin in existing.items() if not thin and (past - day).days > kept.all_days}
    return Upkeep(
        create=tuple(day for day in wanted if day not in existing),
        thin=tuple(sorted(thinned - dropped)),
        drop=tuple(sorted(dropped)),
    )


def place(started_at: datetime, now: datetime) -> datetime:
    """The start by which a piece is stored and sorted: its own, unless the sender's clock is off by more than a day."""
    return max(now - timedelta(hours=23), min(started_at, now + timedelta(hours=23)))
