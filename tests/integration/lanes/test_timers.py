"""Timers: items that a lane holds for later, which what happens in it moves or cancels."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from services.runtime.lanes import Append, Lanes, Lease, Priority, Settle, Timer
from services.runtime.lanes.timers import pack, unpack
from tests.integration.lanes.conftest import blocks, everyone

LANE = UUID(int=1)
TTL = timedelta(seconds=60)
HOUR = timedelta(hours=1)


async def claim(pool: asyncpg.Pool, lanes: Lanes, limit: int = 9) -> list[Lease]:
    async with pool.acquire() as conn:
        return list((await lanes.claim(conn, holder="test", room=everyone(limit), ttl=TTL)).items)


async def idle(pool: asyncpg.Pool, lanes: Lanes, *timers: Timer) -> None:
    """A lane in which one item is done, and which has these timers."""
    async with pool.acquire() as conn:
        await lanes.append(conn, [Append(LANE, "t", share="bot")])
    (lease,) = await claim(pool, lanes)
    await settle(pool, lanes, Settle(LANE, lease.fence, 1, timers=timers))


async def settle(pool: asyncpg.Pool, lanes: Lanes, item: Settle) -> None:
    async with pool.acquire() as conn:
        assert await lanes.settle(conn, [item]) == {item.lane_id}


def timer(kind: str, after: timedelta) -> Timer:
    return Timer(kind, datetime.now(UTC) + after, {"about": kind})


async def test_a_timer_is_the_item_of_an_idle_lane_when_it_is_due(pool: asyncpg.Pool, lanes: Lanes) -> None:
    first, second = timer("first", -HOUR), timer("second", HOUR)
    await idle(pool, lanes, second, first)
    (lease,) = await claim(pool, lanes)
    assert (lease.pending, lease.done_seq, lease.priority) == (1, 1, Priority.LOW)
    assert lease.timers == (first, second)
    await settle(pool, lanes, Settle(LANE, lease.fence, 1, timers=lease.timers[1:]))
    assert await claim(pool, lanes) == []
    assert await pool.fetchval("SELECT due_at FROM work.lanes") == second.at


async def test_a_timer_that_is_not_due_leaves_the_lane_idle(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await idle(pool, lanes, timer("later", HOUR))
    assert await claim(pool, lanes) == []
    async with pool.acquire() as conn:
        first, leases = await lanes.append_leased(conn, [Append(LANE, "t")], holder="test", ttl=TTL, lease=[LANE])
    assert (first[LANE], [lease.pending for lease in leases]) == (2, [1])
    assert leases[0].priority is Priority.HIGH


async def test_what_comes_first_moves_or_cancels_a_timer(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await idle(pool, lanes, timer("later", HOUR))
    for timers, left in (([timer("moved", 2 * HOUR)], ["moved"]), (None, ["moved"]), ([], [])):
        async with pool.acquire() as conn:
            await lanes.append(conn, [Append(LANE, "t")])
        (lease,) = await claim(pool, lanes)
        await settle(pool, lanes, Settle(LANE, lease.fence, 1, timers=timers))
        row = await pool.fetchrow("SELECT due_at, timer_at, timers FROM work.lanes")
        assert row is not None
        assert [each.kind for each in unpack(row["timers"])] == left
        assert row["due_at"] == row["timer_at"]
        assert (row["due_at"] is None) == (not left)


async def test_what_waits_goes_before_a_timer_and_what_comes_later_behind_it(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await idle(pool, lanes, timer("due", -HOUR))
    async with pool.acquire() as conn:
        await lanes.append(conn, [Append(LANE, "t")])
    (lease,) = await claim(pool, lanes)
    assert (lease.pending, lease.priority) == (1, Priority.HIGH)
    await settle(pool, lanes, Settle(LANE, lease.fence, 1))
    (fired,) = await claim(pool, lanes)
    async with pool.acquire() as conn:
        assert await lanes.append(conn, [Append(LANE, "t")]) == {LANE: 4}, "the timer is the third item"
    assert await claim(pool, lanes) == [], "one at a time"
    await settle(pool, lanes, Settle(LANE, fired.fence, 1, timers=[]))
    (behind,) = await claim(pool, lanes)
    assert (behind.done_seq, behind.pending, behind.priority) == (3, 1, Priority.HIGH)


async def test_a_timer_whose_worker_dies_is_the_next_ones(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await idle(pool, lanes, timer("due", -HOUR))
    (dead,) = await claim(pool, lanes)
    past = "lease_until = now() - interval '1 s', due_at = now() - interval '1 s'"
    await pool.execute(f"UPDATE work.lanes SET {past}")
    (lease,) = await claim(pool, lanes)
    assert (lease.pending, lease.done_seq, lease.expired, lease.timers) == (1, 1, True, dead.timers)
    async with pool.acquire() as conn:
        assert await lanes.settle(conn, [Settle(LANE, dead.fence, 1, timers=[])]) == set()
        assert await lanes.release(conn, [lease], due_in=timedelta(0)) == {LANE}
    assert [each.timers for each in await claim(pool, lanes)] == [dead.timers]


async def test_timers_that_cannot_be_read_stop_nobody(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await idle(pool, lanes, timer("due", -HOUR))
    await pool.execute("UPDATE work.lanes SET timers = '{'")
    async with pool.acquire() as conn:
        await lanes.append(conn, [Append(UUID(int=2), "t")])
    assert {lease.lane_id.int: lease.timers for lease in await claim(pool, lanes)} == {1: (), 2: ()}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("analyzed", [False, True])
async def test_idle_lanes_with_timers_cost_a_claim_nothing(
    pool: asyncpg.Pool, lanes: Lanes, mode: str, analyzed: bool
) -> None:
    await pool.execute("ALTER TABLE work.lanes SET (autovacuum_enabled = off)")  # the test says when
    await pool.execute(
        """
        INSERT INTO work.lanes (
            lane_id, tenant_id, share, next_seq, done_seq, pending, priority, timer_at, due_at, timers
        )
        SELECT gen_random_uuid(), 't', 'bot' || n % 1000, 2, 1, 0, 1, at, at, $1
        FROM generate_series(100000, 150000) AS n, LATERAL (SELECT now() + n * interval '1 s' AS at) AS timer
        """,
        pack([timer("later", HOUR)]),
    )
    if analyzed:
        await pool.execute("ANALYZE work.lanes")
    await idle(pool, lanes, timer("due", -HOUR))
    async with pool.acquire() as conn:
        await conn.execute(f"SET plan_cache_mode = {mode}")
        before = await blocks(conn)
        found = await lanes.claim(conn, holder="test", room=everyone(64), ttl=TTL)
        looked_at = await blocks(conn) - before
    assert [lease.lane_id for lease in found.items] == [LANE]
    assert looked_at < 100
