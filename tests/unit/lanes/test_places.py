"""A lane that is stored as leased keeps a place, by the rule of a claim."""

import asyncio

from services.runtime.lanes import Dispatcher, Fairness, Found, Lease, Room
from services.runtime.lanes.shares import Share, Shares
from tests.unit.lanes.memory import SHARE, Store, Worker, beside_a_claim, dispatcher, running, until


async def test_a_lane_that_is_stored_as_leased_is_worked_on_without_a_claim() -> None:
    store, worker = Store(), Worker()
    made = dispatcher(store, worker, concurrency=1)
    async with beside_a_claim(made, store) as lease:
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
    async with beside_a_claim(made, store) as lease:
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
    async with beside_a_claim(made, store) as lease:
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
