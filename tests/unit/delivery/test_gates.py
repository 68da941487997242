"""Whether a channel's calls may go out, and how fast without the limits service."""

from bisect import insort

from hypothesis import given
from hypothesis import strategies as st

from services.delivery.domain.pace import Pace, book
from services.delivery.usecases.gates import Gates
from services.kernel.breaker import BreakerPolicy

POLICY = BreakerPolicy(failures=2, first_open=4.0, probe=10.0)


def test_looking_at_a_gate_makes_no_probe() -> None:
    gate = Gates(POLICY).of(1)
    gate.failed(0.0)
    gate.failed(0.0)
    assert gate.wait(1.0) == 3.0
    assert gate.wait(4.0) == gate.wait(4.0) == 0.0
    assert gate.admit(4.0) == 0.0
    assert gate.admit(4.0) == 10.0, "the first one is the probe"
    assert gate.answered()
    assert gate.admit(4.0) == 0.0
    assert not gate.answered()


def test_a_pause_holds_even_while_the_breaker_is_closed() -> None:
    gate = Gates(POLICY).of(1)
    gate.pause(7.0)
    gate.pause(5.0)
    assert gate.admit(6.0) == 1.0
    assert gate.admit(7.0) == 0.0


def test_channels_have_gates_of_their_own_that_can_be_forgotten() -> None:
    gates = Gates(POLICY)
    gates.of(1).pause(100.0)
    assert gates.of(2).wait(0.0) == 0.0
    assert gates.of(1).wait(0.0) == 100.0
    gates.forget(1)
    assert gates.of(1).wait(0.0) == 0.0


def test_the_pace_alone_is_a_burst_and_then_one_call_an_interval() -> None:
    pace, waits = Pace(), []
    for _ in range(6):
        pace, granted, wait = book(pace, 100.0, interval=1.0, burst=3, longest=2.0)
        waits.append((granted, wait))
    assert waits == [(True, 0.0), (True, 0.0), (True, 0.0), (True, 1.0), (True, 2.0), (False, 1.0)]
    assert book(pace, 200.0, interval=1.0, burst=3, longest=2.0)[1:] == (True, 0.0)


def test_over_a_long_time_the_pace_holds() -> None:
    pace, sent = Pace(), 0
    for tick in range(6000):
        pace, granted, wait = book(pace, tick / 100, interval=1.0, burst=3, longest=0.0)
        sent += granted and wait == 0.0
    assert sent in (62, 63)


@given(
    askers=st.lists(st.floats(0, 90), min_size=1, max_size=80),
    per_minute=st.sampled_from([30.0, 60.0, 300.0]),
    longest=st.sampled_from([0.0, 1.0, 60.0]),
)
def test_whoever_obeys_refusals_never_sends_faster_than_the_pace(
    askers: list[float], per_minute: float, longest: float
) -> None:
    """Each asks, comes back when it was refused, and sends in its slot: no window holds more than rate and burst."""
    interval, burst = 60.0 / per_minute, 3
    waiting, pace, sent = sorted(askers), Pace(), []
    while waiting:
        now = waiting.pop(0)
        pace, granted, wait = book(pace, now, interval=interval, burst=burst, longest=longest)
        if granted:
            sent.append(now + wait)
        else:
            assert wait > 0
            insort(waiting, now + max(wait, 0.01))
    sent.sort()
    for first, begin in enumerate(sent):
        for count, end in enumerate(sent[first:], 1):
            assert count <= burst + (end - begin) / interval + 1e-6
