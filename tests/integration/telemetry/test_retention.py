"""A tenant may have its traces kept for fewer days than the settings say."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import services.telemetry
from services.kernel.clock import SystemClock
from services.runtime.postgres import Pool, open_pool
from services.runtime.retention import Retention
from services.telemetry import retention
from services.telemetry.domain import Piece
from services.telemetry.postgres import PostgresStore
from services.telemetry.retention import plan

NOW = datetime.now(UTC)
DAYS = {"short": 3, "as-the-settings": 7, "longer": 30}


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    migrations = Path(next(iter(services.telemetry.__path__))) / "migrations"
    pool = await open_pool(postgres_url, name="test", schema="telemetry", migrations=migrations, size=2)
    yield pool
    await pool.close()


async def days_of(tenant_id: str) -> int | None:
    return DAYS.get(tenant_id)


async def store(pool: Pool, tenant_id: str, days: int, number: int = 0, *, failed: bool = False) -> bytes:
    """A trace of so many days ago."""
    at = NOW - timedelta(days=days)
    trace_id = f"{tenant_id}/{days}/{number}".encode()
    piece = Piece(trace_id, tenant_id, "root", at, at, 1, failed, ("edge",), b"")
    await PostgresStore(pool).write([piece], at)
    return trace_id


async def left(pool: Pool) -> set[bytes]:
    return {row[0] for row in await pool.fetch("SELECT trace_id FROM telemetry.pieces")}


async def tidy(pool: Pool) -> None:
    tidying = Retention("telemetry", pool, SystemClock(), lambda now: plan(pool, days_of, 7, now))
    while await tidying.look():
        pass


async def test_traces_go_earlier_where_their_tenant_says_so(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    for number in range(5):
        await store(pool, "short", 4, number, failed=number == 0)
    kept = {await store(pool, "short", 2)}
    kept |= {await store(pool, tenant_id, 20) for tenant_id in ("as-the-settings", "longer", "unknown", "")}
    await tidy(pool)
    assert await left(pool) == kept
    told = await pool.fetchrow("SELECT task, removed FROM telemetry.upkeep")
    assert told is not None
    assert tuple(told) == ("traces of short", 5)


async def test_nothing_is_removed_from_a_day_that_is_being_thinned_out(pool: Pool) -> None:
    old = await store(pool, "short", 4)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('parley telemetry partitions', 0))")
        await tidy(pool)
        assert await left(pool) == {old}
    await tidy(pool)
    assert await left(pool) == set()


async def test_tenants_that_cannot_be_asked_lose_nothing(pool: Pool) -> None:
    old = await store(pool, "short", 4)

    async def away(tenant_id: str) -> int | None:
        raise OSError("dialog is away")

    with pytest.raises(OSError, match="away"):
        await Retention("telemetry", pool, SystemClock(), lambda now: plan(pool, away, 7, now)).look()
    assert await left(pool) == {old}
