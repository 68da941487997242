"""What is tidied step by step: one task that fails holds up no other, and a clock that is ahead removes nothing."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from services.kernel.clock import SystemClock
from services.runtime.postgres import Pool, PoolConnection
from services.runtime.retention import Retention, Step, Task

UPKEEP = """
CREATE SCHEMA p;
CREATE TABLE p.upkeep (
    task text PRIMARY KEY, reached uuid, removed bigint NOT NULL, detail text NOT NULL,
    done_at timestamptz DEFAULT now()
);
"""


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
        await pool.execute(UPKEEP)
        yield pool


async def fails(connection: PoolConnection, reached: UUID | None) -> Step:
    raise TimeoutError("this takes too long each time")


async def works(connection: PoolConnection, reached: UUID | None) -> Step:
    return Step(3, more=False)


async def test_a_task_that_fails_each_time_keeps_no_other_from_being_done(pool: Pool) -> None:
    async def plan(now: datetime) -> Sequence[Task]:
        return [Task("fails", fails), Task("works", works)]

    retention = Retention("p", pool, SystemClock(), plan)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await retention.look()
        assert not await retention.look()
    assert [tuple(row) for row in await pool.fetch("SELECT task, removed FROM p.upkeep")] == [("works", 6)]


class Ahead:
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=1000)


class Behind:
    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=1000)


async def test_what_is_old_is_old_by_this_clock_and_by_the_databases(pool: Pool) -> None:
    asked: list[datetime] = []

    async def plan(now: datetime) -> Sequence[Task]:
        asked.append(now)
        return ()

    for clock in (Ahead(), SystemClock(), Behind()):
        assert not await Retention("p", pool, clock, plan).look()
    now = datetime.now(UTC)
    assert [round((now - each) / timedelta(days=1)) for each in asked] == [0, 0, 1000]
