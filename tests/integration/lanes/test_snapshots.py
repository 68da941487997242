"""A long snapshot, such as a backup's, keeps all index entries of what was done meanwhile; claims stay fast."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from statistics import median
from time import perf_counter
from uuid import UUID

import asyncpg
import pytest

from services.runtime.lanes import Append, Connection, Lanes, Lookback, Settle
from services.runtime.lanes.lookback import MARGIN
from tests.integration.lanes.conftest import blocks, everyone

TTL = timedelta(milliseconds=1)
TOGETHER = 64
ROUNDS = 5
LANES = [UUID(int=number << 64) for number in range(1000 * TOGETHER)]


async def turn(lanes: Lanes, conn: Connection, lookback: Lookback | None, number: int, at_once: int = 0) -> float:
    """Messages come in, are claimed and done; the blocks that the claim looked at."""
    room = replace(everyone(TOGETHER), at_once=at_once)
    begin = number % 1000 * TOGETHER
    await lanes.append(conn, [Append(lane, "acme") for lane in LANES[begin : begin + TOGETHER]])
    before = await blocks(conn)
    leases = list((await lanes.claim(conn, holder="test", room=room, ttl=TTL, lookback=lookback)).items)
    took = await blocks(conn) - before
    assert len(leases) == TOGETHER, "every message that has come is seen by the next claim"
    await lanes.settle(conn, [Settle(lease.lane_id, lease.fence, 1) for lease in leases])
    return took


class Paced:
    """Median claims while messages come in at a pace, each of a few rounds in conversations that were silent so far: of
    one that is answered again and again, the snapshot keeps every version."""

    def __init__(self, lanes: Lanes, conn: Connection) -> None:
        self._lanes, self._conn = lanes, conn
        self._next = 500

    async def claims(self, lookback: Lookback | None, at_once: int = 0) -> float:
        taken = []
        for number in range(self._next, self._next + ROUNDS):
            taken.append(await turn(self._lanes, self._conn, lookback, number, at_once if number % 10 else 0))
            await asyncio.sleep(1.5 * MARGIN.total_seconds())  # so that a claim looks back at one round, never two
        self._next += ROUNDS
        return median(taken)


async def test_a_long_snapshot_slows_claims_by_at_most_two(
    pool: asyncpg.Pool, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the table was analyzed or not, and whether plans are made for the arguments or for any: when nothing was
    due at that moment, a plan may take every index of due times for empty."""
    monkeypatch.setattr("services.runtime.lanes.lookback.QUICK", 0.0)  # however fast the machine is
    monkeypatch.setattr("services.runtime.lanes.lookback.QUICK_LANE", 0.0)
    for name in ("WHOLE_EVERY", "LONGEST"):  # however slow it is: one look at everything, and then the others
        monkeypatch.setattr(f"services.runtime.lanes.lookback.{name}", 1000.0)
    await pool.execute("ALTER TABLE work.lanes SET (autovacuum_enabled = off)")  # the test says when
    lookback, during = Lookback(), dict[str, float]()
    async with pool.acquire() as conn, pool.acquire() as backup:
        paced = Paced(lanes, conn)
        await paced.claims(lookback)
        before = await paced.claims(lookback)
        async with backup.transaction(isolation="repeatable_read"):
            await backup.fetchval("SELECT count(*) FROM work.lanes")
            for number in range(500):
                await turn(lanes, conn, lookback, number)
            await paced.claims(lookback)  # past what was not paced
            for upkeep in ("", "ANALYZE", "VACUUM ANALYZE"):
                if upkeep:
                    await conn.execute(f"{upkeep} work.lanes")
                for mode in ("auto", "force_custom_plan", "force_generic_plan"):
                    await conn.execute(f"SET plan_cache_mode = {mode}")
                    during[f"{upkeep or 'nothing'}, {mode}"] = await paced.claims(lookback)
                during[f"{upkeep or 'nothing'}, without a look"] = await paced.claims(lookback, TOGETHER)
            without = await paced.claims(None)
    told = f"{before:.0f} blocks before, {without:.0f} without the lookback, with it after {during}"
    assert max(during.values()) <= 2 * before, told
    assert without > 3 * before, f"this test has lost its sense: {told}"


async def test_a_lane_that_was_dated_back_is_met_soon(pool: asyncpg.Pool, lanes: Lanes) -> None:
    lookback = Lookback()
    async with pool.acquire() as conn:
        await turn(lanes, conn, lookback, 0)
        await lanes.append(conn, [Append(LANES[0], "acme")])
        await conn.execute("UPDATE work.lanes SET due_at = now() - interval '1 day' WHERE due_at IS NOT NULL")
        started = perf_counter()
        while not (await lanes.claim(conn, holder="test", room=everyone(64), ttl=TTL, lookback=lookback)).items:
            assert perf_counter() - started < 60
