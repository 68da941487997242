"""Days begin at midnight where the tenant is, whatever the clocks do there."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.limits.domain.periods import Calendar, Period, UnknownZone, span_at

ZONES = [
    "UTC",
    "Asia/Bishkek",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
]


def milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "now", "day", "begins", "hours"),
    [
        ("UTC", "2026-03-01T00:00:00+00:00", date(2026, 3, 1), "2026-03-01T00:00:00+00:00", 24),
        ("UTC", "2026-02-28T23:59:59.999+00:00", date(2026, 2, 28), "2026-02-28T00:00:00+00:00", 24),
        ("Asia/Bishkek", "2026-02-28T18:00:00+00:00", date(2026, 3, 1), "2026-02-28T18:00:00+00:00", 24),
        ("Asia/Bishkek", "2026-02-28T17:59:59+00:00", date(2026, 2, 28), "2026-02-27T18:00:00+00:00", 24),
        ("Europe/Berlin", "2024-03-31T12:00:00+00:00", date(2024, 3, 31), "2024-03-30T23:00:00+00:00", 23),
        ("Europe/Berlin", "2024-10-27T12:00:00+00:00", date(2024, 10, 27), "2024-10-26T22:00:00+00:00", 25),
        # midnight does not exist: the day begins at 01:00
        ("America/Sao_Paulo", "2018-11-04T03:00:00+00:00", date(2018, 11, 4), "2018-11-04T03:00:00+00:00", 23),
        ("America/Sao_Paulo", "2018-11-04T02:59:59+00:00", date(2018, 11, 3), "2018-11-03T03:00:00+00:00", 24),
        # midnight comes twice: the day begins with the first
        ("America/Havana", "2024-11-03T05:30:00+00:00", date(2024, 11, 3), "2024-11-03T04:00:00+00:00", 25),
        # 30 December 2011 was left out
        ("Pacific/Apia", "2011-12-30T10:00:00+00:00", date(2011, 12, 31), "2011-12-30T10:00:00+00:00", 24),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight(zone: str, now: str, day: date, begins: str, hours: int) -> None:
    found = span_at(zone, Period.DAY, milliseconds(now))
    assert (found.date, found.begins) == (day, milliseconds(begins))
    assert found.ends - found.begins == hours * 3_600_000


@given(zone=st.sampled_from(ZONES), now=st.integers(1_100_000_000_000, 2_050_000_000_000))
def test_now_is_within_its_day_and_the_next_day_follows(zone: str, now: int) -> None:
    day = span_at(zone, Period.DAY, now)
    assert day.begins <= now < day.ends
    assert span_at(zone, Period.DAY, day.ends).date > day.date or zone == "America/St_Johns", (
        "there clocks went back over midnight"
    )


def test_the_remembered_day_ends_at_midnight() -> None:
    days = Calendar()
    noon = milliseconds("2026-05-04T12:00:00+00:00")
    first = days.at("Europe/Berlin", Period.DAY, noon)
    assert days.at("Europe/Berlin", Period.DAY, first.ends - 1) is first
    assert days.at("Europe/Berlin", Period.DAY, first.ends).date == first.date + timedelta(days=1)
    assert days.at("Europe/Berlin", Period.DAY, noon) == first, "time may also go back"


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "europe\0berlin"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone):
        span_at(name, Period.DAY, 0)
