"""Lanes in a database of their own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.runtime.lanes import FREE_FOR_ALL, Connection, Lanes, Room

SCHEMA = "work"


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(postgres_url, min_size=0, max_size=16) as pool:
        await pool.execute(f"CREATE SCHEMA {SCHEMA}")
        await pool.execute(Lanes.ddl(SCHEMA))
        yield pool


def everyone(limit: int) -> Room:
    """Room for so many lanes, whosever they are."""
    return Room(limit, fairness=FREE_FOR_ALL)


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(SCHEMA)


async def blocks(conn: Connection) -> float:
    """Blocks of the lanes and their indexes that were looked at: what a claim costs, however fast the machine is."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    await conn.execute("SELECT pg_stat_clear_snapshot()")
    found = await conn.fetchval(
        "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read FROM pg_statio_user_tables"
        " WHERE schemaname = 'work' AND relname = 'lanes'"
    )
    return float(found)
