"""DLV-5: what somebody waits for goes before what can wait, and what can wait is not passed over for ever."""

import asyncpg
import pytest

from services.runtime.lanes import Fairness, Found, Lanes, Lease, Priority, Room
from services.runtime.lanes.store import LONG_PATIENCE
from tests.integration.lanes.conftest import blocks, everyone
from tests.integration.lanes.test_fairness import TTL, held


async def fill(pool: asyncpg.Pool, share: str, lanes: int, priority: Priority, age: float = 10.0) -> None:
    """Lanes that have been due for `age` seconds."""
    await pool.execute(
        """
        INSERT INTO work.lanes (lane_id, tenant_id, share, next_seq, pending, due_at, priority)
        SELECT gen_random_uuid(), 't', $1, 2, 1, now() - $3 * interval '1 s' + n * interval '1 us', $4
        FROM generate_series(1, $2) AS n
        """,
        share,
        lanes,
        age,
        priority,
    )


async def claim(pool: asyncpg.Pool, lanes: Lanes, room: Room) -> Found[Lease]:
    async with pool.acquire() as conn:
        return await lanes.claim(conn, holder="test", room=room, ttl=TTL)


@pytest.mark.parametrize("at_once", [0, 8])
async def test_replies_go_before_broadcasts_that_are_older(pool: asyncpg.Pool, lanes: Lanes, at_once: int) -> None:
    await fill(pool, "broadcast", 500, Priority.LOW)
    await fill(pool, "reply", 20, Priority.HIGH, age=0.0)
    room = Room(8, fairness=everyone(1).fairness, at_once=at_once)
    shares = [held(await claim(pool, lanes, room)) for _ in range(4)]
    assert [found[("t", "reply")] for found in shares] == [8, 8, 4, 0]
    assert [found[("t", "broadcast")] for found in shares] == [0, 0, 4, 8]


@pytest.mark.parametrize("at_once", [0, 8])
async def test_a_claim_says_what_it_left(pool: asyncpg.Pool, lanes: Lanes, at_once: int) -> None:
    """Broadcasts that wait must not keep replies from being taken where they come in."""
    await fill(pool, "broadcast", 500, Priority.LOW)
    await fill(pool, "reply", 12, Priority.HIGH, age=0.0)
    room = Room(8, fairness=everyone(1).fairness, at_once=at_once)
    left = [await claim(pool, lanes, room) for _ in range(2)]
    assert [found.more for found in left] == [True, False]
    assert left[1].more_patient


async def test_one_broadcast_that_has_waited_for_long_goes_with_each_claim(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await fill(pool, "reply", 500, Priority.HIGH)
    await fill(pool, "broadcast", 500, Priority.LOW, age=LONG_PATIENCE / 2)
    assert held(await claim(pool, lanes, Room(8)))[("t", "broadcast")] == 0
    await pool.execute("UPDATE work.lanes SET due_at = due_at - interval '1 minute' WHERE priority = 1")
    for _ in range(3):
        assert held(await claim(pool, lanes, Room(8)))[("t", "broadcast")] == 1


async def test_broadcasts_leave_places_for_replies(pool: asyncpg.Pool, lanes: Lanes) -> None:
    """They have a share of their own, so that they take no more of the places than any other share may."""
    await fill(pool, "broadcast", 500, Priority.LOW)
    found = await claim(pool, lanes, Room(64, fairness=Fairness()))
    assert 40 <= len(found.items) <= 43


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("known", ["quiet", "crowd"])
async def test_a_reply_is_found_without_a_walk_over_a_broadcast(
    pool: asyncpg.Pool, lanes: Lanes, known: str, mode: str
) -> None:
    await pool.execute("ALTER TABLE work.lanes SET (autovacuum_enabled = off)")  # the test says when
    if known == "quiet":
        await pool.execute("ANALYZE work.lanes")
    await fill(pool, "broadcast" * 4, 50_000, Priority.LOW, age=60.0)
    if known == "crowd":
        await pool.execute("ANALYZE work.lanes")
    await fill(pool, "reply", 3, Priority.HIGH, age=0.0)
    for at_once in (0, 4):
        async with pool.acquire() as conn:
            await conn.execute(f"SET plan_cache_mode = {mode}")
            before = await blocks(conn)
            room = Room(4, fairness=everyone(1).fairness, at_once=at_once)
            found = await lanes.claim(conn, holder="test", room=room, ttl=TTL)
            looked_at = await blocks(conn) - before
        assert len(found.items) == 4
        assert looked_at < 200
    assert await pool.fetchval("SELECT count(*) FROM work.lanes WHERE share = 'reply' AND lease_until IS NULL") == 0
