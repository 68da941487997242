"""Lanes in a database of their own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.runtime.lanes import FREE_FOR_ALL, Lanes, Room

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
