"""Calendar days of time zones."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Day(NamedTuple):
    """A calendar day, and when it begins and ends, in milliseconds since 1970."""

    date: date
    begins: int
    ends: int


class UnknownZone(ValueError):
    """No such time zone."""


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises `UnknownZone`."""
    if name == "UTC":  # known without any database of zones
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"there is no time zone {name!r}") from None


def day_at(name: str, now: int) -> Day:
    """The day that `now` (milliseconds since 1970) falls on.

    A day lasts from midnight to midnight, 23 or 25 hours when clocks change. Where midnight itself is skipped, the day
    begins with the first moment that has its date.
    """
    where = zone(name)
    today = datetime.fromtimestamp(now / 1000, where).date()
    tomorrow = today + timedelta(days=1)
    ends = _midnight(tomorrow, where)
    if ends <= now:  # clocks went back over midnight, so it comes a second time
        ends = _midnight(tomorrow, where, fold=1)
    return Day(today, _midnight(today, where), ends)


def _midnight(day: date, where: tzinfo, fold: int = 0) -> int:
    """In a gap the offset from before it applies, which gives the moment of the change."""
    return round(datetime.combine(day, time(fold=fold), where).timestamp() * 1000)


class Days:
    """Remembers each zone's current day: one comparison a call instead of a calendar."""

    def __init__(self) -> None:
        self._known: dict[str, Day] = {}

    def at(self, name: str, now: int) -> Day:
        day = self._known.get(name)
        if day is None or not day.begins <= now < day.ends:
            day = self._known[name] = day_at(name, now)
        return day
