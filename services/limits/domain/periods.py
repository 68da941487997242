"""Calendar periods of time zones. Times are milliseconds since 1970."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import IntEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Period(IntEnum):
    """How long a calendar period is; the numbers are those of the contract."""

    DAY = 1
    WEEK = 2
    MONTH = 3


class Span(NamedTuple):
    """One calendar period: its first date, and when it begins and ends."""

    date: date
    begins: int
    ends: int


class UnknownZone(ValueError):
    """There is no time zone of this name."""


def zone(name: str) -> tzinfo:
    """Returns the time zone of an IANA name. Raises `UnknownZone`."""
    if name == "UTC":  # known without any database of zones
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"there is no time zone {name!r}") from None


def span_at(name: str, period: Period, now: int) -> Span:
    """Returns the period that `now` falls into.

    Periods last from midnight to midnight, so a day has 23 or 25 hours when clocks change. Where midnight itself is
    skipped, a period begins with the first moment that has its date.
    """
    where = zone(name)
    today = datetime.fromtimestamp(now / 1000, where).date()
    match period:
        case Period.DAY:
            first, following = today, today + timedelta(days=1)
        case Period.WEEK:
            first = today - timedelta(days=today.weekday())
            following = first + timedelta(days=7)
        case Period.MONTH:
            first = today.replace(day=1)
            following = (first + timedelta(days=31)).replace(day=1)
    ends = _midnight(following, where)
    if ends <= now:  # clocks went back over midnight, so it comes a second time
        ends = _midnight(following, where, fold=1)
    return Span(first, _midnight(first, where), ends)


def _midnight(day: date, where: tzinfo, fold: int = 0) -> int:
    """In a gap the offset from before it applies, which gives the moment of the change."""
    return round(datetime.combine(day, time(fold=fold), where).timestamp() * 1000)


class Calendar:
    """Remembers each zone's current periods, so that a call costs one comparison instead of a calculation."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Period], Span] = {}

    def at(self, name: str, period: Period, now: int) -> Span:
        span = self._known.get((name, period))
        if span is None or not span.begins <= now < span.ends:
            span = self._known[name, period] = span_at(name, period, now)
        return span
