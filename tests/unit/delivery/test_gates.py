"""Whether a channel's calls may go out, and how fast without the limits service."""

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.domain.pace import Pace, book
from services.delivery.domain.pauses import Pause, PausePolicy, limited
from services.delivery.usecases import gates as gates_module
from services.delivery.usecases.gates import Gate, Gates
from services.delivery.usecases.ports import Shut
from services.kernel.breaker import BreakerPolicy
from services.kernel.clock import SteadyClock

POLICY = BreakerPolicy(failures=2, first_open=4.0, probe=10.0)
T0 = 1_800_000_000.0


@dataclass
class Time:
    """A clock that stands until it is moved."""

    at: float = T0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@dataclass
class Store:
    """What processes share, as PostgreSQL keeps it."""

    time: Time
    rows: dict[int, tuple[float | None, int, float | None, int]] = field(default_factory=dict)
    away: bool = False
    writes: int = 0

    async def read(self) -> Mapping[int, Shut]:
        self._reach()
        now = self.time.at
        return {
            key: Shut(None if opened is None else opened - now, n, None if paused is None else paused - now, m)
            for key, (opened, n, paused, m) in self.rows.items()
        }

    async def write(self, channel_key: int, shut: Shut | None) -> None:
        self._reach()
        self.writes += 1
        if shut is None:
            self.rows.pop(channel_key, None)
            return
        opened = None if shut.open_for is None else self.time.at + shut.open_for
        paused = None if shut.paused_for is None else self.time.at + shut.paused_for
        self.rows[channel_key] = (opened, shut.openings, paused, shut.pauses)

    async def probe(self, channel_key: int, seconds: float) -> bool:
        self._reach()
        opened, n, paused, m = self.rows.get(channel_key, (None, 1, None, 0))
        if opened is not None and opened > self.time.at:
            return False
        self.rows[channel_key] = (self.time.at + seconds, n, paused, m)
        return True

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError


class Processes:
    """Some that share what they learn."""

    def __init__(self, count: int) -> None:
        self.time = Time()
        self.store = Store(self.time)
        self.gates = [Gates(POLICY, self.store, self.time, told=lambda: None) for _ in range(count)]

    async def talk(self) -> None:
        """All is told, and heard."""
        for gates in self.gates:
            await gates.close()
        if not self.store.away:
            for gates in self.gates:
                await gates.refresh()

    async def admit(self) -> list[float]:
        return [round(await gates.admit(1), 3) for gates in self.gates]


async def test_what_one_process_learns_holds_for_all_and_one_of_them_finds_out() -> None:
    """DLV-5."""
    processes = Processes(3)
    first, second, _ = processes.gates
    first.failed(1)
    assert await processes.admit() == [0, 0, 0], "one failure is none"
    first.failed(1)
    await processes.talk()
    assert await processes.admit() == [4, 4, 4]
    processes.time.at += 4
    assert sorted(await processes.admit()) == [0, 1, 1], "one makes the probe, the others look again"
    await processes.talk()
    assert (await processes.admit()).count(0) == 0
    first.failed(1)
    await processes.talk()
    assert await processes.admit() == [8, 8, 8], "twice as long"
    processes.time.at += 8
    assert await second.admit(1) == 0
    assert second.answered(1)
    assert not second.answered(1), "it has recovered once"
    await processes.talk()
    assert await processes.admit() == [0, 0, 0]
    assert not processes.store.rows


async def test_a_probe_whose_process_died_is_made_by_another() -> None:
    processes = Processes(2)
    first, second = processes.gates
    first.failed(1)
    first.failed(1)
    await processes.talk()
    processes.time.at += 4
    assert await first.admit(1) == 0
    processes.time.at += 9
    await second.refresh()
    assert await second.admit(1) > 0
    processes.time.at += 1
    await second.refresh()
    assert await second.admit(1) == 0


async def test_a_process_that_begins_later_knows_what_the_others_know() -> None:
    processes = Processes(1)
    processes.gates[0].limited(1, 30.0)
    await processes.talk()
    late = Gates(POLICY, processes.store, processes.time, told=lambda: None)
    await late.refresh()
    assert round(late.wait(1), 3) == 30
    assert late.wait(2) == 0


async def test_a_pause_ends_in_its_time_when_the_machines_clock_is_set_back() -> None:
    processes, passed = Processes(1), [0.0]
    machine = Time()
    gates = Gates(POLICY, processes.store, SteadyClock(machine, lambda: passed[0]), told=lambda: None)
    gates.limited(1, 30.0)
    await gates.close()
    machine.at -= 3600
    passed[0] += 31
    processes.time.at += 31
    await gates.refresh()
    assert gates.wait(1) == 0


async def test_without_the_store_each_process_goes_by_what_it_knows() -> None:
    processes = Processes(2)
    processes.store.away = True
    first, second = processes.gates
    first.failed(1)
    first.failed(1)
    await processes.talk()
    assert await processes.admit() == [4, 0]
    processes.time.at += 4
    assert await first.admit(1) == 0
    assert first.answered(1)
    assert await second.admit(1) == 0
    assert not second.answered(1)


async def test_a_channel_that_is_well_is_never_written_of() -> None:
    processes = Processes(1)
    gates = processes.gates[0]
    for _ in range(100):
        assert await gates.admit(1) == 0
        assert not gates.answered(1)
    gates.failed(1)
    gates.answered(1)
    await processes.talk()
    assert processes.store.writes == 0


async def test_what_is_being_told_is_not_undone_by_what_was_read_before() -> None:
    processes = Processes(2)
    first = processes.gates[0]
    first.failed(1)
    first.failed(1)
    await first.refresh()  # nothing is stored yet
    assert first.wait(1) == 4
    await processes.talk()
    assert first.wait(1) == 4


@pytest.mark.parametrize(
    ("named", "waits"),
    [
        (0.0, [1, 2, 4, 8, 16, 32, 60, 60]),
        (None, [5, 5, 5, 8, 16, 32, 60, 60]),
        (10.0, [10, 10, 10, 10, 16, 32, 60, 60]),
        (3600.0, [3600, 3600]),
    ],
)
def test_a_provider_that_keeps_asking_for_a_pause_gets_longer_ones(named: float | None, waits: list[float]) -> None:
    """DLV-2. `Retry-After: 0` is no loop."""
    pause, now = Pause(), T0
    for wait in waits:
        pause = limited(pause, now, named, PausePolicy())
        assert pause.until - now == wait
        now = pause.until


def test_answers_to_calls_that_were_under_way_belong_to_the_same_pause() -> None:
    gate = Gate(POLICY)
    assert gate.limited(T0, 0.0) == 1.0
    for number in range(1, 64):
        gate.limited(T0 + number / 100, 0.0)
    assert gate.wait(T0 + 0.63) < 0.5, "sixty-four at once are one episode"
    assert gate.limited(T0 + 1.0, 0.0) == 2.0
    gate.answered()
    assert gate.limited(T0 + 9.0, 0.0) == 1.0, "a good answer ends the row"


async def test_channels_have_gates_of_their_own_that_can_be_forgotten() -> None:
    processes = Processes(1)
    gates = processes.gates[0]
    gates.limited(1, 100.0)
    assert gates.wait(2) == 0
    assert gates.wait(1) == 100
    gates.forget(1)
    assert gates.wait(1) == 0


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


async def test_channels_with_nothing_amiss_take_no_memory() -> None:
    """Also those that were deleted, of which deliveries are still read."""
    processes = Processes(2)
    one, other = processes.gates
    for key in range(100):
        assert one.wait(key) == await one.admit(key) == 0.0
        assert one.is_open(key)
        one.answered(key)
    assert len(one) == 0
    for _ in range(2):
        one.failed(1)
    one.limited(2, 30.0)
    one.failed(3)
    await processes.talk()
    assert (len(one), len(other)) == (3, 2)
    one.forget(1)  # deleted
    one.answered(3)
    processes.store.rows.clear()  # they expire, or their channels have recovered
    await one.refresh()
    await other.refresh()
    assert (len(one), len(other)) == (0, 0)


async def test_a_process_remembers_so_many_channels_and_hears_again_of_those_it_forgot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates_module, "MOST", 3)
    processes = Processes(1)
    (one,) = processes.gates
    one.limited(0, 30.0)
    for key in range(1, 10):
        one.failed(key)
    assert len(one) == 3
    await processes.talk()
    assert one.wait(0) == pytest.approx(30.0)
