"""From when on claims look, by how long a look at everything takes."""

from datetime import UTC, datetime, timedelta

import pytest

from services.runtime.lanes import lookback
from services.runtime.lanes.lookback import EVER, MARGIN, Lookback

DUE = datetime(2026, 11, 21, tzinfo=UTC)


class Time:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(lookback, "time", made)
    return made


def claim(known: Lookback, time: Time, took: float, lanes: int = 0, due: datetime = DUE) -> datetime:
    """A claim that takes so long; from when on it looks."""
    since = known.since()
    time.now += took
    known.seen(due, lanes)
    return since


def test_as_long_as_it_is_quick_every_claim_looks_at_everything(time: Time) -> None:
    known = Lookback()
    assert [claim(known, time, 0.002) for _ in range(5)] == [EVER] * 5
    assert claim(known, time, 0.006, lanes=64) == EVER
    assert known.is_quick
    assert known.since() == EVER


def test_when_it_is_slow_claims_begin_where_the_one_before_saw_the_oldest_lane(time: Time) -> None:
    known = Lookback()
    claim(known, time, 0.015)
    assert not known.is_quick
    later = DUE + timedelta(seconds=1)
    assert claim(known, time, 0.001, due=later) == DUE - MARGIN
    assert known.since() == later - MARGIN


def test_now_and_then_everything_is_looked_at_all_the_same_and_more_rarely_when_that_takes_long(time: Time) -> None:
    known = Lookback()
    claim(known, time, 0.015)
    time.now += 0.9
    assert claim(known, time, 0.001) != EVER
    time.now += 0.2
    assert claim(known, time, 0.1) == EVER
    time.now += 4.5
    assert claim(known, time, 0.001) != EVER
    time.now += 1.0
    assert claim(known, time, 0.001) == EVER, "after 50 times as long as it took"
    assert known.since() == EVER, "it was quick again: the backup is over"
