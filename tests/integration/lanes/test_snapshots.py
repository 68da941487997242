"""A long snapshot, such as a backup's, keeps all index entries of what was done meanwhile; claims stay fast."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from statistics import median
from time import perf_counter
from uuid import UUID

import asyncpg
import pytest

from services.runtime.lanes import Append, Connection, Horizon, Lanes, Settle
from tests.integration.lanes.conftest import everyone

TTL = timedelta(milliseconds=1)
TOGETHER = 64
LANES = [UUID(int=number << 64) for number in range(1000 * TOGETHER)]


async def turn(lanes: Lanes, conn: Connection, horizon: Horizon | None, number: int, at_once: int = 0) -> float:
    """Messages come in, are claimed and done; the blocks that the claim looked at."""
    room = replace(everyone(TOGETHER), at_once=at_once)
    begin = number % 1000 * TOGETHER
    await lanes.append(conn, [Append(lane, "acme") for lane in LANES[begin : begin + TOGETHER]])
    before = await blocks(conn)
    leases = list((await lanes.claim(conn, holder="test", room=room, ttl=TTL, horizon=horizon)).items)
    took = await blocks(conn) - before
    assert len(leases) == TOGETHER, "every message that has come is seen by the next claim"
    await lanes.settle(conn, [Settle(lease.lane_id, lease.fence, 1) for lease in leases])
    return took


async def blocks(conn: Connection) -> float:
    """Blocks that this database has looked at: what a claim costs, whatever else the machine does."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    await conn.execute("SELECT pg_stat_clear_snapshot()")
    found = await conn.fetchval("SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()")
    return float(found)


async def paced(lanes: Lanes, conn: Connection, horizon: Horizon | None, rounds: int, at_once: int = 0) -> float:
    """The median claim while 640 messages a second come, more than one process answers. Every second one looks at whose
    lanes it takes, also where the others take `at_once`."""
    taken = []
    for number in range(900, 900 + rounds):
        taken.append(await turn(lanes, conn, horizon, number, at_once if number % 10 else 0))
        await asyncio.sleep(0.1)
    return median(taken)


async def test_a_long_snapshot_slows_claims_by_at_most_two(
    pool: asyncpg.Pool, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.lanes.horizon.QUICK", 0.0)  # however fast the machine is
    monkeypatch.setattr("services.runtime.lanes.horizon.QUICK_LANE", 0.0)
    for name in ("WHOLE_EVERY", "LONGEST"):  # however slow it is: one look at everything, and then the others
        monkeypatch.setattr(f"services.runtime.lanes.horizon.{name}", 1000.0)
    horizon = Horizon()
    async with pool.acquire() as conn, pool.acquire() as backup:
        before = await paced(lanes, conn, horizon, 30)
        async with backup.transaction(isolation="repeatable_read"):
            await backup.fetchval("SELECT count(*) FROM work.lanes")
            for number in range(30, 900):
                await turn(lanes, conn, horizon, number)
            await asyncio.sleep(1.5)
            during = await paced(lanes, conn, horizon, 30)
            hasty = await paced(lanes, conn, horizon, 30, TOGETHER)
            without = await paced(lanes, conn, None, 10)
    told = f"{before:.0f} blocks before, {during:.0f} during, {without:.0f} without the horizon"
    assert during <= 2 * before, told
    assert hasty <= 2 * before, f"{hasty:.0f} for a claim without a look; {told}"
    assert without > 3 * before, f"this test has lost its sense: {told}"


async def test_a_lane_that_was_dated_back_is_met_soon(pool: asyncpg.Pool, lanes: Lanes) -> None:
    horizon = Horizon()
    async with pool.acquire() as conn:
        await turn(lanes, conn, horizon, 0)
        await lanes.append(conn, [Append(LANES[0], "acme")])
        await conn.execute("UPDATE work.lanes SET due_at = now() - interval '1 day' WHERE due_at IS NOT NULL")
        started = perf_counter()
        while not (await lanes.claim(conn, holder="test", room=everyone(64), ttl=TTL, horizon=horizon)).items:
            assert perf_counter() - started < 15
