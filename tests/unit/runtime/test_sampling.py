"""So many traces are recorded, and no more."""

from random import Random

from services.runtime.tracing.sampling import Sampler


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_or_none_of_the_traces() -> None:
    ids = [Random(1).getrandbits(128) for _ in range(100)]
    assert all(Sampler(1, 0).takes(each) for each in ids)
    assert not any(Sampler(0, 0).takes(each) for each in ids)


def test_a_tenth_is_about_a_tenth_and_the_same_tenth_everywhere() -> None:
    random = Random(7)
    ids = [random.getrandbits(128) for _ in range(10_000)]
    taken = [each for each in ids if Sampler(0.1, 0).takes(each)]
    assert 900 < len(taken) < 1100
    assert taken == [each for each in ids if Sampler(0.1, 0).takes(each)]


def test_a_burst_is_cut_and_the_bucket_fills_again() -> None:
    time = Time()
    sampler = Sampler(1, 50, time)
    assert sum(sampler.takes(each) for each in range(500)) == 50
    time.now += 0.5
    assert sum(sampler.takes(each) for each in range(500)) == 25
    time.now += 60
    assert sum(sampler.takes(each) for each in range(500)) == 50


def test_less_than_one_a_second_still_takes_one_now_and_then() -> None:
    time = Time()
    sampler = Sampler(1, 0.1, time)
    taken = 0
    for _ in range(100):
        taken += sampler.takes(1)
        time.now += 1
    assert taken in (10, 11)
