"""Several workers, in any order of events, with crashes and pauses: a lane is never lost, doubled or out of order."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.runtime.lanes import Append, Fairness, Lanes, Lease, Room, Settle
from tests.integration.lanes.conftest import everyone

LANES = [UUID(int=n) for n in range(1, 5)]
SHARES = dict(zip(LANES, "aabc", strict=True))
TTL = timedelta(hours=1)
DAY = timedelta(days=1)
T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """The database beside a model of it: messages given per lane, messages done, and who may finish them."""

    url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.lanes = Lanes("work")
        self.given = dict.fromkeys(LANES, 0)
        self.done = dict.fromkeys(LANES, 0)
        self.attempts = dict.fromkeys(LANES, 0)
        self.losses = dict.fromkeys(LANES, 0)
        self.parked: set[UUID] = set()
        self.later: set[UUID] = set()  # waits, but is not due yet
        self.leased: dict[UUID, Lease] = {}  # the right holder
        self.stale: list[Lease] = []  # what paused workers still believe
        self.forgotten: set[UUID] = set()  # leased, but run out
        self.conn = self.run(asyncpg.connect(self.url))
        self.run(self.conn.execute("TRUNCATE work.lanes"))

    def teardown(self) -> None:
        """Whatever happened: everything that was given can be finished in the end."""
        if not hasattr(self, "conn"):
            return
        past = "due_at = now(), lease_until = NULL, parked = NULL, losses = 0"
        self.run(self.conn.execute(f"UPDATE work.lanes SET {past} WHERE pending > 0"))
        left = self.run(self.lanes.claim(self.conn, holder="last", room=everyone(100), ttl=TTL)).items
        self.run(self.lanes.settle(self.conn, [Settle(each.lane_id, each.fence, each.pending) for each in left]))
        rows = self.run(self.conn.fetch("SELECT lane_id, done_seq FROM work.lanes"))
        self.run(self.conn.close())
        assert dict.fromkeys(LANES, 0) | {row["lane_id"]: row["done_seq"] for row in rows} == self.given

    @rule(items=st.lists(st.tuples(st.sampled_from(LANES), st.integers(1, 3), st.booleans()), min_size=1, max_size=5))
    def messages_arrive(self, items: list[tuple[UUID, int, bool]]) -> None:
        appends = [
            Append(lane, "t", count, DAY if delayed else timedelta(0), SHARES[lane]) for lane, count, delayed in items
        ]
        first = self.run(self.lanes.append(self.conn, appends))
        assert first == {lane: self.given[lane] + 1 for lane, _, _ in items}
        idle = {lane for lane in first if self.given[lane] == self.done[lane]}
        self.later |= {lane for lane in idle if all(delayed for each, _, delayed in items if each == lane)}
        for lane, count, _ in items:
            self.given[lane] += count

    @rule(
        items=st.lists(st.tuples(st.sampled_from(LANES), st.integers(1, 3)), min_size=1, max_size=5),
        wanted=st.sets(st.sampled_from(LANES)),
    )
    def messages_arrive_at_a_worker(self, items: list[tuple[UUID, int]], wanted: set[UUID]) -> None:
        """It leases the lanes that were idle, as far as it has places for them."""
        appends = [Append(lane, "t", count, share=SHARES[lane]) for lane, count in items]
        work = self.lanes.append_leased(self.conn, appends, holder="w", ttl=TTL, lease=wanted)
        first, leases = self.run(work)
        assert first == {lane: self.given[lane] + 1 for lane, _ in items}
        idle = {lane for lane in first if self.given[lane] == self.done[lane]}
        for lane, count in items:
            self.given[lane] += count
        assert {lease.lane_id for lease in leases} == idle & wanted
        for lease in leases:
            lane = lease.lane_id
            assert (lease.done_seq, lease.pending) == (self.done[lane], self.given[lane] - self.done[lane])
            assert (lease.attempts, lease.losses, lease.expired) == (1, 0, False)
            assert all(lease.fence > old.fence for old in self.stale if old.lane_id == lane)
            self.leased[lane] = lease

    @rule(limit=st.integers(1, 4), shared=st.booleans())
    def a_worker_claims(self, limit: int, shared: bool) -> None:
        waiting = {lane for lane in LANES if self.given[lane] > self.done[lane]}
        due = waiting - self.later - self.parked - (set(self.leased) - self.forgotten)
        suspects = {lane for lane in due if self.losses[lane] + (lane in self.forgotten) >= 2}
        room = Room(limit, fairness=Fairness(1, 1)) if shared else everyone(limit)
        found = self.run(self.lanes.claim(self.conn, holder="w", room=room, ttl=TTL))
        claimed = found.items
        possible = len(due - suspects) + bool(suspects)
        assert len(claimed) <= min(limit, possible)
        assert found.more == (len(claimed) < len(due))
        if shared:
            assert {SHARES[lease.lane_id] for lease in claimed} == {SHARES[lane] for lane in due - suspects} or claimed
            assert bool(claimed) == bool(due), "a place that is free is given to who has none"
        else:
            assert len(claimed) == min(limit, possible)
        assert len([lease for lease in claimed if lease.alone]) <= 1
        for lease in claimed:
            lane = lease.lane_id
            assert lane in due, "one turn in flight"
            assert (lease.done_seq, lease.pending) == (self.done[lane], self.given[lane] - self.done[lane])
            assert lease.expired == (lane in self.forgotten)
            self.losses[lane] += lease.expired
            self.attempts[lane] += lease.alone
            assert (lease.losses, lease.alone) == (self.losses[lane], self.losses[lane] >= 2)
            assert lease.attempts == self.attempts[lane] + (not lease.alone)
            if lane in self.forgotten:
                assert lease.fence > self.leased[lane].fence
                self.stale.append(self.leased[lane])
                self.forgotten.discard(lane)
            self.leased[lane] = lease

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), failed=st.booleans())
    def a_worker_finishes(self, data: st.DataObject, failed: bool) -> None:
        lane = data.draw(st.sampled_from(sorted(self.leased)))
        lease = self.leased.pop(lane)
        self.forgotten.discard(lane)  # it had run out, but nobody took it: the fence still holds
        done = 0 if failed else data.draw(st.integers(1, lease.pending))
        delay = DAY if failed else None
        attempts = lease.attempts if failed else 0
        settled = self.run(self.lanes.settle(self.conn, [Settle(lane, lease.fence, done, delay, attempts)]))
        assert settled == {lane}
        self.done[lane] += done
        self.attempts[lane] = attempts
        self.losses[lane] = 0
        self.stale.append(lease)
        if failed:
            self.later.add(lane)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def a_worker_parks(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.leased)))
        lease = self.leased.pop(lane)
        self.forgotten.discard(lane)
        assert self.run(self.lanes.park(self.conn, [lease], ["bot"])) == {lane}
        self.attempts[lane] = lease.attempts - 1
        self.losses[lane] = 0
        self.stale.append(lease)
        self.parked.add(lane)

    @rule(limit=st.integers(1, 3))
    def parked_lanes_are_woken(self, limit: int) -> None:
        woken = self.run(self.lanes.wake(self.conn, "t", "bot", limit))
        assert len(woken) == min(limit, len(self.parked))
        assert woken <= self.parked
        self.parked -= woken
        assert self.run(self.lanes.wake(self.conn, "t", "another", 9)) == set()

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def a_worker_crashes_or_pauses(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.leased)))
        past = "lease_until = now() - interval '1 s', due_at = now() - interval '1 s'"
        self.run(self.conn.execute(f"UPDATE work.lanes SET {past} WHERE lane_id = $1", lane))
        self.forgotten.add(lane)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def a_worker_renews(self, data: st.DataObject) -> None:
        lanes = data.draw(st.lists(st.sampled_from(sorted(self.leased)), min_size=1, unique=True))
        held = [self.leased[lane].held for lane in lanes]
        assert self.run(self.lanes.renew(self.conn, held, TTL)) == set(lanes)
        self.forgotten -= set(lanes)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def a_worker_comes_back_with_an_old_fence(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.stale))
        assert self.run(self.lanes.renew(self.conn, [lease.held], TTL)) == set()
        assert self.run(self.lanes.hold(self.conn, [lease.held])) == set()
        assert self.run(self.lanes.park(self.conn, [lease], ["bot"])) == set()
        assert self.run(self.lanes.settle(self.conn, [Settle(lease.lane_id, lease.fence, lease.pending)])) == set()

    @precondition(lambda self: self.later)
    @rule()
    def time_passes(self) -> None:
        self.run(self.conn.execute("UPDATE work.lanes SET due_at = now() WHERE due_at > now() + interval '2 h'"))
        self.later.clear()

    @invariant()
    def the_rows_agree_with_the_model(self) -> None:
        if not hasattr(self, "conn"):
            return
        columns = "lane_id, next_seq, done_seq, pending, lease_until, parked, due_at"
        rows = self.run(self.conn.fetch(f"SELECT {columns} FROM work.lanes"))
        for lane, next_seq, done_seq, pending, lease_until, parked, due_at in rows:
            assert (parked is not None) == (lane in self.parked)
            assert (due_at is None) == (parked is not None or not pending)
            assert (next_seq - 1, done_seq) == (self.given[lane], self.done[lane])
            assert pending == self.given[lane] - self.done[lane]
            assert (lease_until is not None) == (lane in self.leased)
            assert lease_until is None or pending >= 1


def test_lanes_keep_their_promises(postgres_url: str) -> None:
    loop = asyncio.new_event_loop()

    async def prepare() -> None:
        conn = await asyncpg.connect(postgres_url)
        await conn.execute("CREATE SCHEMA work")
        await conn.execute(Lanes.ddl("work"))
        await conn.close()

    loop.run_until_complete(prepare())
    machine = type("LaneMachine", (Machine,), {"url": postgres_url, "loop": loop})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    loop.close()
