"""The dispatcher against lanes in memory: when it claims, how much, and how it stops."""

import asyncio
from datetime import timedelta

from services.runtime.lanes import Dispatcher, Found, Guard, Lease, Room
from services.runtime.lanes.dispatcher import CROWD, FEW, pause
from tests.unit.lanes.memory import Store, Worker, dispatcher, running, until


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


def test_the_more_lanes_are_in_work_the_longer_others_wait_for_company() -> None:
    assert pause(0, 1.0) == pause(FEW, 1.0) == FEW / CROWD
    assert pause(CROWD // 2, 1.0) == 0.5
    assert pause(CROWD, 1.0) == pause(10 * CROWD, 1.0) == 1.0


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
