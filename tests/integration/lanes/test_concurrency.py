"""Many transactions at once, on real connections."""

import asyncio
import random
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from services.runtime.lanes import Append, Lanes, Settle
from tests.integration.lanes.conftest import everyone

IDS = [UUID(int=n + 1) for n in range(40)]
TTL = timedelta(seconds=60)


async def test_shuffled_batches_never_deadlock(pool: asyncpg.Pool, lanes: Lanes) -> None:
    """Appends, claims, renewals and settlements of many lanes, each batch in its own random order."""
    shuffle = random.Random(7)

    async def batch(number: int) -> None:
        ids = shuffle.sample(IDS, 30)
        async with pool.acquire() as conn:
            if number % 3:
                async with conn.transaction():
                    await lanes.append(conn, [Append(each, "t") for each in ids])
                    await asyncio.sleep(0)
                return
            leases = list((await lanes.claim(conn, holder=str(number), room=everyone(30), ttl=TTL)).items)
            shuffle.shuffle(leases)
            async with conn.transaction():
                assert len(await lanes.renew(conn, [lease.held for lease in leases], TTL)) == len(leases)
            async with conn.transaction():
                assert len(await lanes.hold(conn, [lease.held for lease in leases])) == len(leases)
                await lanes.settle(conn, [Settle(each.lane_id, each.fence, each.pending) for each in leases])

    await asyncio.gather(*(batch(number) for number in range(360)))
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await pool.fetchval(deadlocks) == 0


async def test_sequences_stand_in_the_order_of_commit(pool: asyncpg.Pool, lanes: Lanes) -> None:
    """Whoever reads never sees a message while one before it is still to come."""
    await pool.execute("CREATE TABLE work.messages (lane_id uuid, seq bigint, PRIMARY KEY (lane_id, seq))")
    writing = True

    async def write() -> None:
        async with pool.acquire() as conn:
            for _ in range(25):
                async with conn.transaction():
                    [(lane, seq)] = (await lanes.append(conn, [Append(IDS[0], "t")])).items()
                    await conn.execute("INSERT INTO work.messages VALUES ($1, $2)", lane, seq)

    async def read() -> int:
        looks = 0
        while writing:
            count, top = await pool.fetchrow("SELECT count(*), coalesce(max(seq), 0) FROM work.messages") or (0, -1)
            assert count == top
            looks += 1
        return looks

    reading = asyncio.create_task(read())
    await asyncio.gather(*(write() for _ in range(8)))
    writing = False
    assert await reading > 0
    assert await pool.fetchval("SELECT max(seq) FROM work.messages") == 200


@pytest.mark.parametrize("crashing", [False, True])
async def test_workers_do_everything_once_and_in_order(pool: asyncpg.Pool, lanes: Lanes, crashing: bool) -> None:
    """Producers and workers side by side; some workers forget their lease and come back after the takeover."""
    total, chance = 300, random.Random(3)
    ttl = timedelta(milliseconds=50) if crashing else TTL
    await pool.execute("CREATE TABLE work.done (place bigserial, lane_id uuid, seq bigint, PRIMARY KEY (lane_id, seq))")

    async def produce() -> None:
        for _ in range(total // 10):
            async with pool.acquire() as conn:
                await lanes.append(conn, [Append(each, "t") for each in chance.sample(IDS[:8], 5)])

    async def work(name: str) -> None:
        while await pool.fetchval("SELECT count(*) FROM work.done") < total:
            async with pool.acquire() as conn:
                leases = (await lanes.claim(conn, holder=name, room=everyone(2), ttl=ttl)).items
            if crashing and leases and chance.random() < 0.4:
                await asyncio.sleep(0.06)  # longer than the lease: others may have taken it
            async with pool.acquire() as conn, conn.transaction():
                held = await lanes.hold(conn, [lease.held for lease in leases])
                mine = [lease for lease in leases if lease.lane_id in held]
                rows = [(lease.lane_id, lease.done_seq + 1) for lease in mine]
                await conn.executemany("INSERT INTO work.done (lane_id, seq) VALUES ($1, $2)", rows)
                settled = await lanes.settle(conn, [Settle(each.lane_id, each.fence, 1) for each in mine])
                assert settled == held
            if not leases:
                await asyncio.sleep(0.005)

    async with asyncio.timeout(60):
        await asyncio.gather(produce(), produce(), *(work(f"w{n}") for n in range(6)))
    inversions = """
        WITH done AS (SELECT seq, row_number() OVER (PARTITION BY lane_id ORDER BY place) AS place FROM work.done)
        SELECT count(*) FROM done WHERE seq <> place
    """
    assert await pool.fetchval(inversions) == 0
    assert await pool.fetchval("SELECT sum(pending) FROM work.lanes") == 0
