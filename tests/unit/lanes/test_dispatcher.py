"""The dispatcher against lanes in memory: when it claims, how much, and what it does when a lease is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.runtime.lanes import Dispatcher, Fairness, Found, Guard, Held, Lease, LeaseLost, Room
from services.runtime.lanes.dispatcher import MANY, PATIENT, apart
from services.runtime.lanes.shares import Share, Shares

SHARE: Share = ("t", "")


class Store:
    """Lanes that are due, and what was asked of them."""

    def __init__(self) -> None:
        self.due: list[Lease] = []
        self.held: set[UUID] = set()
        self.limits: list[int] = []
        self.renewed: list[tuple[set[UUID], timedelta]] = []
        self.released: list[tuple[UUID, timedelta]] = []
        self.attempts: dict[UUID, int] = {}
        self.fails = 0

    def add(self, count: int = 1, attempts: int = 1) -> list[Lease]:
        now = datetime.now(UTC)
        new = [Lease(uuid4(), "t", 1, 1, 0, attempts, 0, now, False) for _ in range(count)]
        self.due += new
        return new

    async def claim(self, room: Room) -> Found[Lease]:
        limit = room.free
        self.limits.append(limit)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the database is away")
        taken, self.due = self.due[:limit], self.due[limit:]
        self.held |= {lease.lane_id for lease in taken}
        return Found(taken, bool(self.due))

    async def renew(self, leases: Sequence[Held], ttl: timedelta) -> Collection[UUID]:
        self.renewed.append(({lease.lane_id for lease in leases}, ttl))
        return {lease.lane_id for lease in leases} & self.held

    async def release(self, leases: Sequence[Lease], due_in: timedelta) -> None:
        self.released += [(lease.lane_id, due_in) for lease in leases]
        self.attempts |= {lease.lane_id: lease.attempts - 1 for lease in leases}


class Worker:
    """Work that starts, and ends when told."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.guards: dict[UUID, Guard] = {}
        self.finished: list[UUID] = []
        self.most = 0
        self.go = asyncio.Event()
        if at_once:
            self.go.set()

    async def __call__(self, lease: Lease, guard: Guard) -> bool:
        self.guards[lease.lane_id] = guard
        self.most = max(self.most, len(self.guards) - len(self.finished))
        await self.go.wait()
        self.finished.append(lease.lane_id)
        return False


Work = Callable[[Lease, Guard], Awaitable[object]]


def dispatcher(store: Store, work: Work, **settings: float) -> Dispatcher[Lease]:
    concurrency = int(settings.pop("concurrency", 4))
    options: dict[str, Any] = {"poll": 30.0, "gather": 0.0} | settings
    return Dispatcher(
        claim=store.claim, renew=store.renew, release=store.release, work=work, concurrency=concurrency, **options
    )


@asynccontextmanager
async def running(made: Dispatcher[Lease]) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(made.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def test_what_is_due_at_the_start_is_worked_on() -> None:
    store, work = Store(), Worker(at_once=True)
    store.add(3)
    async with running(dispatcher(store, work)):
        await until(lambda: len(work.finished) == 3)


async def test_after_a_claim_of_a_few_the_places_that_are_left_are_filled_at_once() -> None:
    """What is worked on may take a minute: nobody waits for its end, or for the next poll, beside free places."""
    store, work = Store(), Worker()
    taken: list[int] = []

    async def claim(room: Room) -> Found[Lease]:
        taken.append(room.at_once or room.free)
        found, store.due = store.due[: taken[-1]], store.due[taken[-1] :]
        store.held |= {lease.lane_id for lease in found}
        return Found(found, len(found) == taken[-1])

    made: Dispatcher[Lease] = Dispatcher(
        claim=claim, renew=store.renew, release=store.release, work=work, concurrency=8, poll=30.0, gather=0.0
    )
    async with running(made):
        await until(lambda: len(taken) == 1)
        store.add(7)
        made.wake()
        await until(lambda: len(work.guards) == 7)
        assert taken[1] < 7, "the second claim took a few without a look"
        work.go.set()


async def test_a_wake_up_claims_at_once() -> None:
    store, work = Store(), Worker(at_once=True)
    made = dispatcher(store, work)
    async with running(made):
        await until(lambda: store.limits)
        store.add()
        made.wake()
        await until(lambda: len(work.finished) == 1)


async def test_a_wake_up_during_a_claim_is_not_lost() -> None:
    store, work = Store(), Worker(at_once=True)
    made = dispatcher(store, work)
    plain = store.claim

    async def slow(room: Room) -> Found[Lease]:
        taken = await plain(room)
        if len(store.limits) == 1:
            store.add()
            made.wake()
        return taken

    store.claim = slow  # type: ignore[method-assign]
    made = dispatcher(store, work)
    async with running(made):
        await until(lambda: len(work.finished) == 1)


async def test_a_lost_wake_up_is_made_up_for_by_the_poll() -> None:
    store, work = Store(), Worker(at_once=True)
    async with running(dispatcher(store, work, poll=0.02)):
        await until(lambda: store.limits)
        store.add()
        await until(lambda: len(work.finished) == 1)


async def test_a_delayed_wake_up_comes_when_it_is_due() -> None:
    store, work = Store(), Worker(at_once=True)
    made = dispatcher(store, work)
    async with running(made):
        await until(lambda: store.limits)
        store.add()
        made.wake(after=0.05)
        await asyncio.sleep(0)
        assert not work.finished
        await until(lambda: len(work.finished) == 1)


async def test_wake_ups_that_come_together_make_one_claim() -> None:
    store, work = Store(), Worker(at_once=True)
    made = dispatcher(store, work, gather=0.5)
    async with running(made):
        await until(lambda: store.limits)
        for _ in range(20):
            store.add()
            made.wake()
            await asyncio.sleep(0)
        await until(lambda: len(work.finished) == 20)
    assert len(store.limits) < 12


FEW = [(2, 64), (MANY - 1, 64), (2, 3)]
NONE_OR_ONE_OR_MANY = [(0, 64), (1, 64), (MANY, 64), (64, 64)]
AS_MANY_AS_PLACES = [(2, 2), (3, 3)]


def test_only_a_few_lanes_are_worth_waiting_for_more() -> None:
    assert {apart(found, places, 1.0) for found, places in FEW} == {PATIENT}
    assert {apart(found, places, 1.0) for found, places in NONE_OR_ONE_OR_MANY + AS_MANY_AS_PLACES} == {1.0}


async def test_no_more_run_than_there_are_places() -> None:
    store, work = Store(), Worker()
    store.add(10)
    made = dispatcher(store, work, concurrency=3)
    async with running(made):
        await until(lambda: len(work.guards) == 3)
        made.wake()
        await asyncio.sleep(0.01)
        assert (made.running, store.limits) == (3, [3])
        work.go.set()
        await until(lambda: len(work.finished) == 10)
    assert work.most == 3


async def test_work_that_leaves_something_is_followed_by_a_claim() -> None:
    store = Store()
    store.add()
    done: list[Lease] = []

    async def work(lease: Lease, guard: Guard) -> None:
        if not done:
            store.due.append(lease)
        done.append(lease)

    async with running(dispatcher(store, work)):
        await until(lambda: len(done) == 2)


async def test_work_that_fails_is_let_go_and_is_due_later() -> None:
    store = Store()
    [first], [fourth] = store.add(), store.add(attempts=4)

    async def work(lease: Lease, guard: Guard) -> None:
        raise RuntimeError("broken")

    async with running(dispatcher(store, work)):
        await until(lambda: len(store.released) == 2)
    expected = [(first.lane_id, timedelta(seconds=1)), (fourth.lane_id, timedelta(seconds=8))]
    assert store.released == expected
    assert store.attempts == {first.lane_id: 1, fourth.lane_id: 4}, "what failed was an attempt"


async def test_a_failing_claim_is_tried_again() -> None:
    store, work = Store(), Worker(at_once=True)
    store.add()
    store.fails = 2
    async with running(dispatcher(store, work, poll=0.01)):
        await until(lambda: len(work.finished) == 1)


async def test_short_work_is_never_renewed() -> None:
    store, work = Store(), Worker(at_once=True)
    store.add(20)
    async with running(dispatcher(store, work, ttl=3)):
        await until(lambda: len(work.finished) == 20)
        await asyncio.sleep(1.5)  # past the time from which leases are renewed
    assert store.renewed == []


async def test_long_work_is_renewed_in_one_call() -> None:
    store, work = Store(), Worker()
    lanes = {lease.lane_id for lease in store.add(3)}
    async with running(dispatcher(store, work, ttl=2)):
        await until(lambda: len(store.renewed) >= 4)
        assert all(each == (lanes, timedelta(seconds=2)) for each in store.renewed)
        assert all(guard.remaining() > 0 and not guard.lost for guard in work.guards.values())
        work.go.set()


async def test_a_lost_lease_marks_the_guard_and_stops_the_work() -> None:
    store, work = Store(), Worker()
    lost, kept = store.add(2)
    made = dispatcher(store, work, ttl=2, grace=0.05)
    async with running(made):
        await until(lambda: len(work.guards) == 2)
        store.held.discard(lost.lane_id)
        await until(lambda: work.guards[lost.lane_id].lost)
        with pytest.raises(LeaseLost):
            await work.guards[lost.lane_id].ensure(0)
        await until(lambda: made.running == 1)
        assert not work.guards[kept.lane_id].lost
        work.go.set()
    assert (work.finished, store.released) == ([kept.lane_id], []), "what is lost is not ours to let go"


async def test_a_guard_renews_before_a_long_call() -> None:
    store, work = Store(), Worker()
    [lease] = store.add()
    async with running(dispatcher(store, work, ttl=60)):
        await until(lambda: work.guards)
        guard = work.guards[lease.lane_id]
        await guard.ensure(30)
        assert (store.renewed, guard.fence) == ([], 1)
        await guard.ensure(90)
        assert guard.remaining() > 90
        store.held.clear()
        with pytest.raises(LeaseLost):
            await guard.ensure(600)
        assert guard.lost
        work.go.set()


async def test_stopping_lets_running_work_finish_and_claims_no_more() -> None:
    store, work = Store(), Worker()
    store.add()
    made = dispatcher(store, work)
    async with running(made) as stop:
        await until(lambda: work.guards)
        stop.set()
        store.add()
        made.wake()
        await asyncio.sleep(0.01)
        work.go.set()
    assert (len(work.finished), len(store.due), store.released) == (1, 1, [])


async def test_what_is_not_finished_in_the_drain_time_is_let_go_at_once() -> None:
    store, work = Store(), Worker()
    leases = store.add(2)
    async with running(dispatcher(store, work, drain=0.02)):
        await until(lambda: len(work.guards) == 2)
    assert sorted(store.released) == sorted((lease.lane_id, timedelta(0)) for lease in leases)
    assert set(store.attempts.values()) == {0}, "being stopped is none"
    assert work.finished == []


async def test_a_guard_that_cannot_renew_stops_the_work() -> None:
    """Nobody can tell whose the lane is, so nothing may be started outside."""
    store, work = Store(), Worker()
    store.add()

    async def away(leases: Sequence[Held], ttl: timedelta) -> Collection[UUID]:
        raise ConnectionError("the database is away")

    store.renew = away  # type: ignore[method-assign]
    async with running(dispatcher(store, work, ttl=60)):
        await until(lambda: work.guards)
        [guard] = work.guards.values()
        with pytest.raises(LeaseLost):
            await guard.ensure(90)
        work.go.set()


async def test_a_lane_that_is_stored_as_leased_is_worked_on_without_a_claim() -> None:
    store, worker = Store(), Worker()
    made = dispatcher(store, worker, concurrency=1)
    async with running(made):
        await until(lambda: store.limits)
        [lease] = Store().add()
        assert made.keep(SHARE)
        assert not made.keep(SHARE), "the only place was kept twice"
        made.adopt(lease, asyncio.get_running_loop().time())
        await until(lambda: worker.guards)
        assert not made.keep(SHARE), "the place was given away while it was worked in"
        worker.go.set()
        await until(lambda: worker.finished)
        assert made.keep(SHARE)
        made.give_back(SHARE)
        assert made.keep(SHARE), "a place that was given back is not free"
        made.give_back(SHARE)
    assert store.limits == [1], "there was a claim"


async def test_a_lane_that_is_adopted_is_worked_on_under_the_lease_as_counted_from_before_its_statement() -> None:
    store, worker = Store(), Worker()
    made = dispatcher(store, worker, ttl=10.0)
    async with running(made):
        await until(lambda: store.limits)
        [lease] = Store().add()
        assert made.keep(SHARE)
        made.adopt(lease, asyncio.get_running_loop().time() - 4.0)
        await until(lambda: worker.guards)
        assert worker.guards[lease.lane_id].remaining() <= 6.0
        worker.go.set()


async def test_no_place_is_kept_before_what_was_due_already() -> None:
    """Neither while a claim looks for it, nor when a claim had to leave some of it."""
    store, worker = Store(), Worker()
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def claim(room: Room) -> Found[Lease]:
        asked.set()
        await go_on.wait()
        return Found((await store.claim(room)).items, more=True)

    made: Dispatcher[Lease] = Dispatcher(
        claim=claim, renew=store.renew, release=store.release, work=worker, concurrency=4, poll=30.0, gather=0.0
    )
    assert not made.keep(SHARE), "it takes nothing before it runs"
    async with running(made):
        await asked.wait()
        assert not made.keep(SHARE)
        store.add()
        go_on.set()
        await until(lambda: worker.guards)
        assert not made.keep(SHARE)
        worker.go.set()


async def test_a_place_that_gets_free_is_for_the_claim_that_waits_for_it() -> None:
    store, worker = Store(), Worker()
    made = dispatcher(store, worker, concurrency=1)
    async with running(made):
        await until(lambda: store.limits)
        [lease] = Store().add()
        assert made.keep(SHARE)
        made.adopt(lease, asyncio.get_running_loop().time())
        await until(lambda: worker.guards)
        store.add()
        made.wake()
        await asyncio.sleep(0.02)
        worker.go.set()
        while store.due:
            assert not made.keep(SHARE)
            await asyncio.sleep(0)


async def test_no_place_is_kept_while_draining_and_what_was_kept_before_is_finished() -> None:
    store, worker = Store(), Worker(at_once=True)
    made = dispatcher(store, worker)
    [lease] = Store().add()
    async with running(made) as stop:
        await until(lambda: store.limits)
        assert made.keep(SHARE)
        stop.set()
        await asyncio.sleep(0.02)
        assert not made.keep(SHARE)
        made.adopt(lease, asyncio.get_running_loop().time())
    assert worker.finished == [lease.lane_id]
    assert not store.released


async def test_a_lane_that_is_stored_after_the_end_is_left_to_its_lease() -> None:
    store, worker = Store(), Worker(at_once=True)
    made = dispatcher(store, worker, drain=0.01)
    [lease] = Store().add()
    async with running(made):
        await until(lambda: store.limits)
        assert made.keep(SHARE)
    made.adopt(lease, asyncio.get_running_loop().time())
    await asyncio.sleep(0.02)
    assert not worker.guards


def test_places_are_kept_by_the_rule_of_a_claim() -> None:
    """One share alone gets two thirds, whoever has none gets one."""
    shares = Shares(64, Fairness())

    def take(share: Share, *, asks: bool = False) -> int:
        taken = 0
        while shares.admits(share, 0.0, asks=asks):
            shares.take(share, asks=asks, alone=False)
            taken += 1
        return taken

    assert take(("flood", "1")) == 43
    assert 1 <= take(("flood", "2")) < 21
    assert 1 <= take(("other", "1")) < 20
    shares.bar(("newcomer", "1"), 1.0)
    assert not shares.admits(("newcomer", "1"), 0.5, asks=False)
    assert shares.admits(("newcomer", "1"), 1.0, asks=False)
    shares = Shares(8, Fairness(tenant=100.0, share=100.0, asking=1.0))
    assert take(("flood", "1"), asks=True) == 4
    assert shares.admits(("flood", "1"), 0.0, asks=False), "other work is held up by that which asks a model"
    assert shares.admits(("flood", "2"), 0.0, asks=True), "a share that holds no place yet may have one"
