"""Leases are renewed while work goes on; what is lost stops its work."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from services.runtime.lanes import Held, LeaseLost
from tests.unit.lanes.memory import Store, Worker, dispatcher, running, until


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
