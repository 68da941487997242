"""What guessing costs, and whom."""

from contextlib import ExitStack

import pytest

from services.edge.guesses import ADDRESSES, LOOKUPS, WINDOW, Guesses
from services.edge.problems import Problem
from services.edge.server.peers import crowd_of

REFUSED = Problem(401, "INVALID_API_KEY", "no")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_failures_beyond_the_most_are_told_to_wait_until_the_window_ends() -> None:
    clock = Clock()
    guesses = Guesses(3, clock)
    assert [guesses.failed("192.0.2.1", "api_key", REFUSED).status for _ in range(5)] == [401, 401, 401, 429, 429]
    clock.now += 20
    with pytest.raises(Problem) as refused, guesses.asking("192.0.2.1"):
        pass
    assert (refused.value.status, refused.value.reason) == (429, "TOO_MANY_FAILURES")
    assert refused.value.retry_after == WINDOW - 20
    clock.now += WINDOW
    with guesses.asking("192.0.2.1"):
        pass
    assert guesses.failed("192.0.2.1", "api_key", REFUSED) is REFUSED
    assert guesses.failures == {"api_key": 6}


def test_addresses_are_told_apart_and_a_network_of_ipv6_is_one() -> None:
    guesses = Guesses(1)
    for address, status in (
        ("192.0.2.1", 401),
        ("192.0.2.2", 401),
        ("2001:db8::1", 401),
        ("2001:db8::ffff:2", 429),
        ("2001:db8:0:1::1", 401),
        ("::ffff:192.0.2.1", 429),
    ):
        assert guesses.failed(address, "channel", REFUSED).status == status


def test_questions_under_way_count_so_that_many_at_once_are_no_way_around() -> None:
    guesses = Guesses(1)
    with guesses.asking("192.0.2.1"):
        with pytest.raises(Problem), guesses.asking("192.0.2.1"):
            pass
    with guesses.asking("192.0.2.1"):
        pass  # it was no failure


def test_questions_of_all_strangers_together_are_bounded() -> None:
    guesses = Guesses(1)
    with ExitStack() as asking:
        for number in range(LOOKUPS):
            asking.enter_context(guesses.asking(f"10.0.{number // 256}.{number % 256}"))
        with pytest.raises(Problem) as refused, guesses.asking("192.0.2.1"):
            pass
    assert refused.value.status == 503


def test_what_is_remembered_is_bounded() -> None:
    guesses = Guesses(1)
    for number in range(ADDRESSES + 500):
        guesses.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "channel", REFUSED)
    assert len(guesses._records) == ADDRESSES


def test_whom_a_limit_counts_as_one() -> None:
    assert crowd_of("192.0.2.1") == crowd_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert crowd_of("2001:db8::1%eth0") == "2001:db8::/64"
    assert crowd_of("") == ""
