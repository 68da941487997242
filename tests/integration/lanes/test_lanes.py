"""What lanes promise, one trap at a time."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.runtime.lanes import Append, Dispatcher, Found, Guard, Held, Lanes, Lease, Room, Settle
from tests.integration.lanes.conftest import everyone

TTL = timedelta(seconds=60)
SECOND = timedelta(seconds=1)


async def claim(pool: asyncpg.Pool, lanes: Lanes, limit: int = 10, ttl: timedelta = TTL) -> list[Lease]:
    async with pool.acquire() as conn:
        return list((await lanes.claim(conn, holder="test", room=everyone(limit), ttl=ttl)).items)


async def add(pool: asyncpg.Pool, lanes: Lanes, *items: Append) -> dict[UUID, int]:
    async with pool.acquire() as conn:
        return await lanes.append(conn, items)


async def settle(pool: asyncpg.Pool, lanes: Lanes, *items: Settle) -> set[UUID]:
    async with pool.acquire() as conn:
        return await lanes.settle(conn, items)


async def forget(pool: asyncpg.Pool, lane_id: UUID) -> None:
    """Its worker is gone: the lease runs out."""
    await pool.execute(
        """
        UPDATE work.lanes SET lease_until = now() - interval '1 s', due_at = now() - interval '1 s'
        WHERE lane_id = $1 AND lease_until IS NOT NULL
        """,
        lane_id,
    )


async def test_sequences_start_at_one_and_go_on(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane, other = uuid4(), uuid4()
    assert await add(pool, lanes, Append(lane, "t", 2), Append(other, "t")) == {lane: 1, other: 1}
    assert await add(pool, lanes, Append(lane, "t"), Append(lane, "t", 3)) == {lane: 3}
    assert await add(pool, lanes, Append(lane, "t")) == {lane: 7}


async def test_appending_nothing_changes_nothing(pool: asyncpg.Pool, lanes: Lanes) -> None:
    assert await add(pool, lanes) == {}
    assert await settle(pool, lanes) == set()


async def test_a_leased_lane_is_not_given_out_again(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t", 2))
    [lease] = await claim(pool, lanes)
    expected = (lane, "t", 1, 2, 0, 1, False)
    assert (
        lease.lane_id,
        lease.tenant_id,
        lease.fence,
        lease.pending,
        lease.done_seq,
        lease.attempts,
        lease.expired,
    ) == expected
    assert await claim(pool, lanes) == []
    await add(pool, lanes, Append(lane, "t"))
    assert await claim(pool, lanes) == []


async def test_the_longest_due_lane_comes_first(pool: asyncpg.Pool, lanes: Lanes) -> None:
    order = [uuid4() for _ in range(5)]
    await add(pool, lanes, *(Append(lane, "t") for lane in order))
    for place, lane in reversed(list(enumerate(order))):
        due = "UPDATE work.lanes SET due_at = now() - interval '1 h' + $2 * interval '1 s' WHERE lane_id = $1"
        await pool.execute(due, lane, float(place))
    assert [lease.lane_id for lease in await claim(pool, lanes, 3)] == order[:3]
    assert [lease.lane_id for lease in await claim(pool, lanes, 3)] == order[3:]


async def test_a_message_that_comes_while_the_last_one_is_worked_on_is_not_forgotten(
    pool: asyncpg.Pool, lanes: Lanes
) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    await add(pool, lanes, Append(lane, "t"))
    assert await settle(pool, lanes, Settle(lane, lease.fence, 1)) == {lane}
    [again] = await claim(pool, lanes)
    assert (again.pending, again.done_seq, again.attempts) == (1, 1, 1)
    await settle(pool, lanes, Settle(lane, again.fence, 1))
    assert await claim(pool, lanes) == []


async def test_a_message_whose_transaction_is_open_at_the_release_is_not_forgotten(
    pool: asyncpg.Pool, lanes: Lanes
) -> None:
    """The release waits for the append's lock, and must then see its count, not that of its own snapshot."""
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    async with pool.acquire() as appending:
        transaction = appending.transaction()
        await transaction.start()
        await lanes.append(appending, [Append(lane, "t")])
        settling = asyncio.create_task(settle(pool, lanes, Settle(lane, lease.fence, 1)))
        await wait_until_blocked(pool)
        await transaction.commit()
    assert await settling == {lane}
    [again] = await claim(pool, lanes)
    assert (again.pending, again.done_seq) == (1, 1)


async def test_an_append_that_waits_for_the_release_finds_the_lane_idle(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    async with pool.acquire() as settling:
        transaction = settling.transaction()
        await transaction.start()
        await lanes.settle(settling, [Settle(lane, lease.fence, 1)])
        appending = asyncio.create_task(add(pool, lanes, Append(lane, "t")))
        await wait_until_blocked(pool)
        await transaction.commit()
    assert await appending == {lane: 2}
    [again] = await claim(pool, lanes)
    assert (again.pending, again.done_seq) == (1, 1)


async def wait_until_blocked(pool: asyncpg.Pool) -> None:
    blocked = "wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(30):
        while True:
            if await pool.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {blocked}"):
                return
            await asyncio.sleep(0.005)


async def test_a_paused_worker_finishes_nothing_after_a_takeover(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [paused] = await claim(pool, lanes)
    await forget(pool, lane)
    [taken] = await claim(pool, lanes)
    assert (taken.fence, taken.attempts, taken.expired) == (paused.fence + 1, 1, True)
    async with pool.acquire() as conn, conn.transaction():
        assert await lanes.hold(conn, [paused.held]) == set()
        assert await lanes.renew(conn, [paused.held], TTL) == set()
        assert await lanes.settle(conn, [Settle(lane, paused.fence, 1)]) == set()
        assert await lanes.release(conn, [paused], due_in=SECOND) == set()
        assert await lanes.hold(conn, [taken.held, paused.held]) == {lane}
    assert await settle(pool, lanes, Settle(lane, taken.fence, 1)) == {lane}


async def test_a_takeover_cannot_slip_in_between_hold_and_commit(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    await forget(pool, lane)
    async with pool.acquire() as conn, conn.transaction():
        assert await lanes.hold(conn, [lease.held]) == {lane}
        assert await claim(pool, lanes) == []
        assert await lanes.settle(conn, [Settle(lane, lease.fence, 1)]) == {lane}
    assert await claim(pool, lanes) == []


async def test_a_lease_ends_once(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t", 2))
    [lease] = await claim(pool, lanes)
    assert await settle(pool, lanes, Settle(lane, lease.fence, 1)) == {lane}
    assert await settle(pool, lanes, Settle(lane, lease.fence, 1)) == set()
    assert await pool.fetchval("SELECT pending FROM work.lanes") == 1


async def test_more_cannot_be_done_than_waits(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    with pytest.raises(asyncpg.CheckViolationError):
        await settle(pool, lanes, Settle(lane, lease.fence, 2))


async def test_a_retry_waits_and_keeps_its_attempts(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    await settle(pool, lanes, Settle(lane, lease.fence, 0, timedelta(hours=1), lease.attempts, 7))
    await add(pool, lanes, Append(lane, "t"))
    assert await claim(pool, lanes) == [], "a later message cuts no delay short"
    await pool.execute("UPDATE work.lanes SET due_at = now()")
    [again] = await claim(pool, lanes)
    assert (again.attempts, again.pending, again.data_version, again.expired) == (2, 2, 7, False)


async def test_a_lease_let_go_counts_no_attempt(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await add(pool, lanes, Append(uuid4(), "t"))
    [lease] = await claim(pool, lanes)
    async with pool.acquire() as conn:
        await lanes.release(conn, [lease], due_in=timedelta(0))
    [again] = await claim(pool, lanes)
    assert (again.attempts, again.fence) == (1, 2)


async def test_an_idle_lane_can_be_made_to_wait(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t", due_in=timedelta(hours=1)))
    assert await claim(pool, lanes) == []


async def test_renewing_never_shortens_a_lease(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    async with pool.acquire() as conn:
        assert await lanes.renew(conn, [lease.held, Held(uuid4(), 1)], SECOND) == {lane}
        assert await conn.fetchval("SELECT lease_until FROM work.lanes") == lease.lease_until
        assert await lanes.renew(conn, [lease.held], 2 * TTL) == {lane}
        assert await conn.fetchval("SELECT lease_until > $1 FROM work.lanes", lease.lease_until)


async def test_a_locked_lane_is_passed_over_and_comes_next(pool: asyncpg.Pool, lanes: Lanes) -> None:
    first, second = uuid4(), uuid4()
    await add(pool, lanes, Append(first, "t"))
    await add(pool, lanes, Append(second, "t"))
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT 1 FROM work.lanes WHERE lane_id = $1 FOR UPDATE", first)
        assert [lease.lane_id for lease in await claim(pool, lanes)] == [second]
    assert [lease.lane_id for lease in await claim(pool, lanes)] == [first]


@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize("due", [0, 50_000])
async def test_claiming_uses_its_index_among_100_000_lanes(
    pool: asyncpg.Pool, lanes: Lanes, due: int, generic: bool
) -> None:
    async with pool.acquire() as conn:
        await conn.execute(
            """
            INSERT INTO work.lanes (lane_id, tenant_id, next_seq, done_seq, pending, due_at) SELECT
            gen_random_uuid(), 't', 2, CASE WHEN n <= $1 THEN 0 ELSE 1 END, CASE WHEN n <= $1 THEN 1 ELSE 0
            END,
                CASE WHEN n <= $1 THEN now() - n * interval '1 ms' END
            FROM generate_series(1, 100000) AS n
            """,
            due,
        )
        await conn.execute("ANALYZE work.lanes")
        await conn.execute(f"SET plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        types = "text, bigint, float8, text[], text[], int[], bool[], int, float8, float8, float8, bool"
        types += ", int, text, text, int, timestamptz, float8"
        await conn.execute(f"PREPARE claim ({types}) AS {lanes._sql['claim']}")
        arguments = "'me', 64, 60, '{t}', '{busy}', '{30}', '{f}', 0, 3, 2, 3, true, 128, '', '', 64, '1970-01-01', 30"
        plan = await conn.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE claim ({arguments})")
    nodes = list(walk(json.loads(plan)[0]["Plan"]))
    indexes = Counter(node["Index Name"] for node in nodes if "Index Name" in node)
    assert set(indexes) == {"lanes_pkey", "lanes_claimable", "lanes_by_share"}
    assert indexes["lanes_claimable"] == 2, "only the oldest of each priority are looked for in the order of due times"
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}


def walk(node: dict[str, object]) -> list[dict[str, object]]:
    children = node.get("Plans", [])
    assert isinstance(children, list)
    return [node, *(inner for child in children for inner in walk(child))]


async def test_an_append_to_a_busy_lane_touches_no_index(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    await add(pool, lanes, Append(lane, "t"))
    [lease] = await claim(pool, lanes)
    async with pool.acquire() as conn:
        before = await conn.fetchval("SELECT ctid FROM work.lanes")
        for _ in range(20):
            await lanes.append(conn, [Append(lane, "t")])
        assert await conn.fetchval("SELECT ctid FROM work.lanes") != before
        await conn.execute("SELECT pg_stat_force_next_flush()")
        moved = await conn.fetchval("SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'lanes'")
    assert (lease.fence, moved) == (1, 1), "only the claim moves the lane in an index"


async def test_a_dispatcher_works_everything_off_and_counts_what_fails(pool: asyncpg.Pool, lanes: Lanes) -> None:
    """Two processes' dispatchers on one table; one lane's work fails at first."""
    stop, bad = asyncio.Event(), uuid4()
    failures: list[int] = []
    done: dict[UUID, int] = {}

    async def claim_some(room: Room) -> Found[Lease]:
        async with pool.acquire() as conn:
            return await lanes.claim(conn, holder="test", room=room, ttl=TTL)

    async def renew(leases: Sequence[Held], ttl: timedelta) -> set[UUID]:
        async with pool.acquire() as conn:
            return await lanes.renew(conn, leases, ttl)

    async def release(leases: Sequence[Lease], due_in: timedelta) -> object:
        async with pool.acquire() as conn:
            return await lanes.release(conn, leases, due_in=timedelta(0))

    async def work(lease: Lease, guard: Guard) -> None:
        if lease.lane_id == bad and len(failures) < 3:
            failures.append(lease.attempts)
            raise RuntimeError("broken")
        assert await settle(pool, lanes, Settle(lease.lane_id, guard.fence, 1)) == {lease.lane_id}
        done[lease.lane_id] = done.get(lease.lane_id, 0) + 1

    made = [
        Dispatcher(claim=claim_some, renew=renew, release=release, work=work, concurrency=3, poll=0.02) for _ in "ab"
    ]
    running = [asyncio.create_task(each.run(stop)) for each in made]
    appended = [bad, *(uuid4() for _ in range(20))]
    await add(pool, lanes, *(Append(lane, "t", 3) for lane in appended))
    async with asyncio.timeout(60):
        while True:
            if done == dict.fromkeys(appended, 3):
                break
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*running)
    assert failures == [1, 2, 3]
