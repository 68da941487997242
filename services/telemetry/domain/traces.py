"""Traces as they are stored, and the decision which days of them are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta


@dataclass(frozen=True)
class Piece:
    """Spans of one trace that were stored together. Most traces are one piece.

    `tenant_id` and `name` (of the root span) are empty if no span of the piece has them. `spans` is a serialised
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
    """Whether they were sent by a tenant's own service rather than one of ours."""


@dataclass(frozen=True)
class Filters:
    """Which traces to find."""

    tenant_id: str
    service: str
    errors_only: bool
    min_duration: timedelta


@dataclass(frozen=True)
class Position:
    """The place of a trace among those of its tenant, newest first."""

    started_at: datetime
    trace_id: bytes


@dataclass(frozen=True)
class Summary:
    """The summary of a trace."""

    position: Position
    name: str
    started_at: datetime
    ended_at: datetime
    span_count: int
    has_error: bool


@dataclass(frozen=True)
class DaysKept:
    """The number of days for which traces are kept: all, and the important ones (failed or slow)."""

    all_days: int
    important_days: int
    slow: timedelta


@dataclass(frozen=True)
class Upkeep:
    """The daily partitions to make, to thin out and to drop."""

    create: tuple[date, ...]
    thin: tuple[date, ...]
    drop: tuple[date, ...]


AHEAD = 2
"""Days for which partitions are made in advance, so that a night without upkeep loses nothing."""


def upkeep(today: date, past: date, existing: Mapping[date, bool], kept: DaysKept) -> Upkeep:
    """Decides which partitions to make, to thin out to important traces, and to drop.

    `existing` has the days with a partition, and whether each is thinned already. New spans are stored by our clock, so
    partitions are made around `today`; yesterday needs one, for a trace that began before midnight. Ages are counted
    from `past`, the earlier of our day and the database's, so that a clock that is ahead removes nothing. A day is old
    when its last moment is: day 1, kept for 7 days, is thinned on day 9.
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
    """Returns the start by which a piece is stored: its own, unless the sender's clock is off by more than a day."""
    return max(now - timedelta(hours=23), min(started_at, now + timedelta(hours=23)))
