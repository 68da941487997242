"""What guessing costs, and whom."""

from contextlib import ExitStack

import pytest

from services.edge.failure_limit import ADDRESSES, LOOKUPS, WINDOW, FailureLimit
from services.edge.problems import Problem
from services.edge.server.addresses import network_of

REFUSED = Problem(401, "INVALID_API_KEY", "no")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_failures_beyond_the_most_are_told_to_wait_until_the_window_ends() -> None:
    clock = Clock()
    failures = FailureLimit(3, clock)
    assert [failures.failed("192.0.2.1", "api_key", REFUSED).status for _ in range(5)] == [401, 401, 401, 429, 429]
    clock.now += 20
    with pytest.raises(Problem) as refused, failures.looking_up("192.0.2.1"):
        pass
    assert (refused.value.status, refused.value.reason) == (429, "TOO_MANY_FAILURES")
    assert refused.value.retry_after == WINDOW - 20
    clock.now += WINDOW
    with failures.looking_up("192.0.2.1"):
        pass
    assert failures.failed("192.0.2.1", "api_key", REFUSED) is REFUSED
    assert failures.counts == {"api_key": 6}


def test_addresses_are_told_apart_and_a_network_of_ipv6_is_one() -> None:
    failures = FailureLimit(1)
    for address, status in (
        ("192.0.2.1", 401),
        ("192.0.2.2", 401),
        ("2001:db8::1", 401),
        ("2001:db8::ffff:2", 429),
        ("2001:db8:0:1::1", 401),
        ("::ffff:192.0.2.1", 429),
    ):
        assert failures.failed(address, "channel", REFUSED).status == status


def test_questions_under_way_count_so_that_many_at_once_are_no_way_around() -> None:
    failures = FailureLimit(1)
    with failures.looking_up("192.0.2.1"):
        with pytest.raises(Problem), failures.looking_up("192.0.2.1"):
            pass
    with failures.looking_up("192.0.2.1"):
        pass  # it was no failure


def test_questions_of_all_strangers_together_are_bounded() -> None:
    failures = FailureLimit(1)
    with ExitStack() as asking:
        for number in range(LOOKUPS):
            asking.enter_context(failures.looking_up(f"10.0.{number // 256}.{number % 256}"))
        with pytest.raises(Problem) as refused, failures.looking_up("192.0.2.1"):
            pass
    assert refused.value.status == 503


def test_what_is_remembered_is_bounded() -> None:
    failures = FailureLimit(1)
    for number in range(ADDRESSES + 500):
        failures.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "channel", REFUSED)
    assert len(failures._records) == ADDRESSES


def test_whom_a_limit_counts_as_one() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1%eth0") == "2001:db8::/64"
    assert network_of("") == ""
