"""The circuit breaker."""

from services.kernel.breaker import (
    Breaker,
    BreakerPolicy,
    Closed,
    HalfOpen,
    Open,
    admit,
    failed,
    succeeded,
)

POLICY = BreakerPolicy(failures=3, first_open=2.0, longest_open=10.0, probe=5.0)


def opened(now: float = 0.0) -> Breaker:
    breaker: Breaker = Closed()
    for _ in range(POLICY.failures):
        breaker = failed(breaker, now, POLICY)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = failed(failed(Closed(), 0.0, POLICY), 0.0, POLICY)
    assert breaker == Closed(2)
    assert failed(breaker, 1.0, POLICY) == Open(until=3.0, times=1)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker, recovered = succeeded(Closed(2))
    assert (breaker, recovered) == (Closed(), False)


def test_while_open_it_says_how_long_to_wait() -> None:
    assert admit(opened(), 0.5, POLICY) == (Open(2.0, 1), 1.5)


def test_when_the_time_is_over_one_call_goes_out_and_others_wait_for_it() -> None:
    breaker, wait = admit(opened(), 2.0, POLICY)
    assert (breaker, wait) == (HalfOpen(7.0, 1), 0.0)
    assert admit(breaker, 3.0, POLICY) == (breaker, 4.0)


def test_a_probe_that_works_closes_it_and_the_channel_has_recovered() -> None:
    assert succeeded(HalfOpen(7.0, 1)) == (Closed(), True)


def test_a_probe_that_fails_opens_it_for_longer_up_to_a_ceiling() -> None:
    breaker = opened()
    waits = []
    for _ in range(5):
        assert isinstance(breaker, Open)
        now = breaker.until
        breaker, _ = admit(breaker, now, POLICY)
        breaker = failed(breaker, now, POLICY)
        assert isinstance(breaker, Open)
        waits.append(breaker.until - now)
    assert waits == [4.0, 8.0, 10.0, 10.0, 10.0]


def test_a_lost_probe_is_followed_by_another() -> None:
    breaker, _ = admit(opened(), 2.0, POLICY)
    assert admit(breaker, 7.0, POLICY) == (HalfOpen(12.0, 1), 0.0)


def test_late_failures_of_calls_from_before_do_not_draw_the_opening_out() -> None:
    breaker = opened()
    assert failed(breaker, 1.9, POLICY) == breaker
