"""So many traces are recorded, and no more."""

from random import Random

from opentelemetry.context import Context, set_value
from opentelemetry.sdk.trace.sampling import Decision

from services.runtime.tracing.sampling import UNKNOWN_CALLER, Cap, RateCapped


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_or_none_of_the_traces() -> None:
    ids = [Random(1).getrandbits(128) for _ in range(100)]
    assert all(Cap(1, 0).takes(each) for each in ids)
    assert not any(Cap(0, 0).takes(each) for each in ids)


def test_a_tenth_is_about_a_tenth_and_the_same_tenth_everywhere() -> None:
    random = Random(7)
    ids = [random.getrandbits(128) for _ in range(10_000)]
    taken = [each for each in ids if Cap(0.1, 0).takes(each)]
    assert 900 < len(taken) < 1100
    assert taken == [each for each in ids if Cap(0.1, 0).takes(each)]


def test_a_burst_is_cut_and_the_bucket_fills_again() -> None:
    time = Time()
    cap = Cap(1, 50, time)
    assert sum(cap.takes(each) for each in range(500)) == 50
    time.now += 0.5
    assert sum(cap.takes(each) for each in range(500)) == 25
    time.now += 60
    assert sum(cap.takes(each) for each in range(500)) == 50


def test_less_than_one_a_second_still_takes_one_now_and_then() -> None:
    time = Time()
    cap = Cap(1, 0.1, time)
    taken = 0
    for _ in range(100):
        taken += cap.takes(1)
        time.now += 1
    assert taken in (10, 11)


def test_those_who_are_not_known_have_a_cap_of_their_own() -> None:
    time = Time()
    sampler = RateCapped(Cap(1, 5, time), Cap(1, 2, time))
    unknown = set_value(UNKNOWN_CALLER, True, Context())

    def taken(context: Context | None) -> int:
        return sum(sampler.should_sample(context, 1, "x").decision is Decision.RECORD_AND_SAMPLE for _ in range(10))

    assert [taken(unknown), taken(Context()), taken(None)] == [2, 5, 0]
