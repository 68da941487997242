"""Whose lanes a claim takes: no tenant and no share takes all places, and none is forgotten behind a flood."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.runtime.lanes import Append, Fairness, Found, Lanes, Lease, Room, Settle
from services.runtime.lanes.shares import Group, Shares
from services.runtime.lanes.store import WALK, WINDOW
from services.runtime.lanes.types import LOST_TOO_OFTEN
from tests.integration.lanes.conftest import blocks, everyone

TTL = timedelta(seconds=60)


async def fill(pool: asyncpg.Pool, tenant: str, share: str, lanes: int, *, age: float = 10.0) -> None:
    """Lanes that have been due for `age` seconds."""
    await pool.execute(
        """
        INSERT INTO work.lanes (lane_id, tenant_id, share, next_seq, pending, due_at)
        SELECT gen_random_uuid(), $1, $2, 2, 1, now() - $4 * interval '1 s' + n * interval '1 us'
        FROM generate_series(1, $3) AS n
        """,
        tenant,
        share,
        lanes,
        age,
    )


async def claim(pool: asyncpg.Pool, lanes: Lanes, room: Room) -> Found[Lease]:
    async with pool.acquire() as conn:
        return await lanes.claim(conn, holder="test", room=room, ttl=TTL)


def held(found: Found[Lease]) -> Counter[tuple[str, str]]:
    return Counter((lease.tenant_id, lease.share) for lease in found.items)


async def work(pool: asyncpg.Pool, lanes: Lanes, shares: Shares, asks: Callable[[str], bool], rounds: int = 60) -> None:
    """What a dispatcher does: claims, and now and then a piece of work ends. All that is claimed counts at once."""
    chance, running = random.Random(5), list[Lease]()
    for _ in range(rounds):
        found = await claim(pool, lanes, shares.room(0.0))
        shares.looked(found.walked or ("", ""))
        for lease in found.items:
            shares.take((lease.tenant_id, lease.share), asks=asks(lease.share), alone=False)
        running += found.items
        for lease in chance.sample(running, len(running) // 4):
            running.remove(lease)
            shares.give_back((lease.tenant_id, lease.share), asks=asks(lease.share), alone=False)
    found = await claim(pool, lanes, shares.room(0.0))
    for lease in found.items:
        shares.take((lease.tenant_id, lease.share), asks=asks(lease.share), alone=False)


@pytest.mark.parametrize(
    "crowds",
    [
        {("t", "a"): 43},
        {("t", "a"): 22, ("t", "b"): 22},
        {("t", "a"): 23, ("u", "a"): 23},
        dict.fromkeys(((f"t{n}", "a") for n in range(9)), 6),
    ],
)
async def test_crowds_leave_places_for_others(
    pool: asyncpg.Pool, lanes: Lanes, crowds: dict[tuple[str, str], int]
) -> None:
    for tenant, share in crowds:
        await fill(pool, tenant, share, 3000)
    shares = Shares(64, Fairness())
    await work(pool, lanes, shares, lambda _: False)
    places = {group[:2]: group.held for group in shares.room(0.0).groups}
    assert {share: pytest.approx(wanted, abs=4) for share, wanted in crowds.items()} == places
    assert shares.free >= 3
    await fill(pool, "t", "newcomer", 1, age=0.0)
    await fill(pool, "newcomer", "a", 1, age=0.0)
    assert set(held(await claim(pool, lanes, shares.room(0.0)))) >= {("t", "newcomer"), ("newcomer", "a")}


async def test_work_that_asks_a_model_leaves_places_for_quick_work(pool: asyncpg.Pool, lanes: Lanes) -> None:
    for number in range(20):
        await fill(pool, f"t{number}", "slow", 500)
    shares = Shares(64, Fairness())
    await work(pool, lanes, shares, lambda share: share == "slow")
    assert 40 <= 64 - shares.free <= 58
    await fill(pool, "t1", "quick", 50, age=0.0)
    quick = held(await claim(pool, lanes, shares.room(0.0)))[("t1", "quick")]
    assert quick >= 5


async def test_a_flood_hides_nobody(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await fill(pool, "flood", "a", 3000)
    await fill(pool, "t", "other", 1, age=1.0)
    await fill(pool, "flood", "b", 1, age=1.0)
    found = await claim(pool, lanes, Room(64))
    assert {("t", "other"), ("flood", "b")} <= set(held(found))
    full = Room(20, (Group("flood", "a", 44, False),))
    await fill(pool, "t", "other", 1, age=1.0)
    assert set(held(await claim(pool, lanes, full))) == {("t", "other")}, "a full share gets no more"


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("known", ["quiet", "crowd"])
async def test_whom_a_flood_hides_is_found_without_a_walk_over_it(
    pool: asyncpg.Pool, lanes: Lanes, known: str, mode: str
) -> None:
    """Statistics from before the flood, when nothing was due, or from the middle of it, when one share was all there
    was, must not make a plan look for others in the order of due times."""
    await pool.execute("ALTER TABLE work.lanes SET (autovacuum_enabled = off)")  # the test says when
    if known == "quiet":
        await fill(pool, "flood", "a" * 36, 1)
        await pool.execute("UPDATE work.lanes SET pending = 0, done_seq = 1, due_at = NULL")
    else:
        await fill(pool, "flood", "a" * 36, 50_000, age=60.0)
    await pool.execute("ANALYZE work.lanes")
    if known == "quiet":
        await fill(pool, "flood", "a" * 36, 50_000, age=60.0)
    for number in range(20):
        await fill(pool, f"t{number}", "b" * 36, 1)
    full = Room(20, (Group("flood", "a" * 36, 44, False),))
    async with pool.acquire() as conn:
        await conn.execute(f"SET plan_cache_mode = {mode}")
        before = await blocks(conn)
        found = await lanes.claim(conn, holder="test", room=full, ttl=TTL)
        looked_at = await blocks(conn) - before
    assert len(held(found)) == 20
    assert looked_at < 1000, "some look-ups for each of 20 shares"


async def test_any_number_of_shares_has_its_turn(pool: asyncpg.Pool, lanes: Lanes) -> None:
    """A crowd in the front, and more shares behind it than one claim looks at."""
    await fill(pool, "a", "crowd", WINDOW + 1)
    for number in range(3 * WALK):
        await fill(pool, "t", f"s{number:03}", 1, age=1.0)
    shares = Shares(100_000, Fairness())
    shares.bar(("a", "crowd"), until=1.0)
    taken: Counter[tuple[str, str]] = Counter()
    claims = 0
    while True:
        found = await claim(pool, lanes, shares.room(0.0))
        shares.looked(found.walked or ("", ""))
        taken += held(found)
        claims += 1
        if found.walked is None:
            break
    assert (len(taken), set(taken.values())) == (3 * WALK, {1})
    assert claims == 4


async def test_a_lane_that_was_lost_twice_is_taken_alone_and_each_taking_counts(
    pool: asyncpg.Pool, lanes: Lanes
) -> None:
    await fill(pool, "t", "a", 3)

    async def lose_all() -> None:
        past = "due_at = now() - interval '1 s', lease_until = now() - interval '1 s'"
        await pool.execute(f"UPDATE work.lanes SET {past} WHERE lease_until IS NOT NULL")

    for loss in range(LOST_TOO_OFTEN):
        found = await claim(pool, lanes, everyone(9))
        assert {(each.attempts, each.losses, each.alone) for each in found.items} == {(1, loss, False)}
        assert len(found.items) == 3
        await lose_all()
    first = await claim(pool, lanes, everyone(9))
    assert [(each.attempts, each.losses, each.alone) for each in first.items] == [(1, 2, True)]
    assert first.more
    shares = Shares(9, Fairness())
    shares.take(("t", "a"), asks=False, alone=True)
    await fill(pool, "t", "a", 1)
    assert [lease.alone for lease in (await claim(pool, lanes, shares.room(0.0))).items] == [False]
    await lose_all()
    again = {lease.lane_id: lease.attempts for lease in first.items}
    seen: dict[UUID, int] = {}
    for _ in range(4):
        for lease in (await claim(pool, lanes, everyone(9))).items:
            seen[lease.lane_id] = lease.attempts
            async with pool.acquire() as conn:
                await lanes.settle(conn, [Settle(lease.lane_id, lease.fence, 1)])
    assert sorted(seen.values()) == [1, 1, 1, 2], "one worked on with it has nothing to answer for"
    assert all(seen[lane] == 2 for lane in again)


async def test_a_barred_share_is_left_to_others(pool: asyncpg.Pool, lanes: Lanes) -> None:
    await fill(pool, "t", "a", 1)
    shares = Shares(9, Fairness())
    shares.bar(("t", "a"), until=5.0)
    found = await claim(pool, lanes, shares.room(0.0))
    assert (found.items, found.more) == ([], False)
    assert len((await claim(pool, lanes, shares.room(6.0))).items) == 1


async def test_a_parked_lane_stays_parked_when_messages_arrive(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lane = uuid4()
    async with pool.acquire() as conn:
        await lanes.append(conn, [Append(lane, "t", share="bot")])
        [lease] = (await lanes.claim(conn, holder="test", room=everyone(1), ttl=TTL)).items
        assert await lanes.park(conn, [lease], ["bot"]) == {lane}
        await lanes.append(conn, [Append(lane, "t", share="other")])
        assert (await lanes.claim(conn, holder="test", room=everyone(1), ttl=TTL)).items == []
        assert await lanes.wake(conn, "t", "bot", 10) == {lane}
        [again] = (await lanes.claim(conn, holder="test", room=everyone(1), ttl=TTL)).items
    assert (again.attempts, again.pending, again.share) == (1, 2, "bot")


async def test_a_few_lanes_are_taken_without_a_look_at_whose_they_are(pool: asyncpg.Pool, lanes: Lanes) -> None:
    shares = Shares(64, Fairness())
    assert shares.room(0.0).at_once == 0, "nothing is known yet"
    shares.looked(("", ""), crowded=False)
    assert shares.room(0.5).at_once == 43, "what one share may have at most"
    for _ in range(20):
        shares.take(("t", "a"), asks=False, alone=False)
    room = shares.room(0.5)
    assert room.at_once == 23
    await fill(pool, "t", "a", 22)
    few = await claim(pool, lanes, room)
    assert (len(few.items), few.more) == (22, False)
    await fill(pool, "t", "a", 100)
    many = await claim(pool, lanes, room)
    assert (len(many.items), many.more) == (23, True)
    shares.looked(("", ""), crowded=many.more)
    assert shares.room(0.5).at_once == 0, "then it matters whose the others are"
    shares.looked(("", ""), crowded=False)
    assert shares.room(2.0).at_once == 0, "and every second, for lanes that were lost twice"
    assert shares.room(2.0).at_once > 0
