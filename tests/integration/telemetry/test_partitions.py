"""Days of spans: made ahead, thinned out, dropped."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from parley_client import errors
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import TokenSource
from services.runtime import background
from services.runtime.postgres import open_pool
from services.runtime.service import Running, running
from services.telemetry import wiring
from services.telemetry.domain.traces import DaysKept, Upkeep
from services.telemetry.ports import StoreRefuses
from services.telemetry.postgres.store import PostgresStore
from services.telemetry.settings import TelemetrySettings
from services.telemetry.usecases import Upkeeper
from services.telemetry.wiring import build
from tests.integration.telemetry.conftest import MovedClock, get, send, stored
from tests.support.otlp import SpanMade, export, new_trace_id


async def partitions(postgres_url: str) -> set[str]:
    connection = await asyncpg.connect(postgres_url)
    try:
        rows = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'telemetry.pieces'::regclass"
        )
        return {row["relname"] for row in rows}
    finally:
        await connection.close()


async def look_after_partitions(postgres_url: str, clock: MovedClock) -> None:
    """As the service does by itself, now and then."""
    pool = await open_pool(postgres_url, name="test", schema="telemetry", migrations=None, size=1)
    try:
        await Upkeeper(PostgresStore(pool), DaysKept(7, 30, timedelta(seconds=10)), clock).look()
    finally:
        await pool.close()


def table(clock: MovedClock, days: int) -> str:
    return f"pieces_{clock.noon + timedelta(days=days):%Y%m%d}"


async def test_days_are_thinned_to_what_is_important_and_then_dropped(
    service: Running, client: TelemetryClient, edge: TokenSource, clock: MovedClock, postgres_url: str
) -> None:
    clock.moved = timedelta(days=-31)
    noon = clock.now().timestamp()
    plain, failed, slow = (new_trace_id() for _ in range(3))
    spans = [
        SpanMade(plain, started=noon, tenant_id="demo"),
        SpanMade(failed, started=noon, tenant_id="demo"),
        SpanMade(failed, parent_id=b"p" * 8, started=noon, failed=True),
        SpanMade(slow, started=noon, seconds=11, tenant_id="demo"),
    ]
    await send(service, edge, export(spans))
    await stored(client, 4)
    await look_after_partitions(postgres_url, clock)
    assert {table(clock, day) for day in (-32, -31, -30, -29)} <= await partitions(postgres_url)

    clock.moved = timedelta(days=-24)
    await look_after_partitions(postgres_url, clock)
    await client.get_trace(get(plain))

    clock.moved = timedelta(days=-23)
    await look_after_partitions(postgres_url, clock)
    await look_after_partitions(postgres_url, clock)
    with pytest.raises(errors.NotFound):
        await client.get_trace(get(plain))
    assert len((await client.get_trace(get(failed))).spans) == 2
    assert len((await client.get_trace(get(slow))).spans) == 1

    clock.moved = timedelta()
    await look_after_partitions(postgres_url, clock)
    with pytest.raises(errors.NotFound):
        await client.get_trace(get(failed))
    assert table(clock, -31) not in await partitions(postgres_url)
    assert {table(clock, day) for day in (-1, 0, 1, 2)} <= await partitions(postgres_url)


async def test_a_clock_that_is_ahead_removes_nothing(
    service: Running, client: TelemetryClient, edge: TokenSource, clock: MovedClock, postgres_url: str
) -> None:
    trace_id = new_trace_id()
    await send(service, edge, export([SpanMade(trace_id, tenant_id="demo")]))
    await stored(client, 1)
    clock.moved = timedelta(days=100)
    await look_after_partitions(postgres_url, clock)
    assert (await client.get_trace(get(trace_id))).spans
    assert table(clock, 100) in await partitions(postgres_url), "what is written goes by this clock"


async def test_a_missing_partition_is_made_when_it_is_needed(
    service: Running, client: TelemetryClient, edge: TokenSource, clock: MovedClock
) -> None:
    clock.moved = timedelta(days=20)
    trace_id = new_trace_id()
    await send(service, edge, export([SpanMade(trace_id, tenant_id="demo")]))
    await stored(client, 1)
    assert len((await client.get_trace(get(trace_id))).spans) == 1


async def test_a_day_that_cannot_be_dropped_holds_up_no_other(
    service: Running, clock: MovedClock, postgres_url: str
) -> None:
    pool = await open_pool(postgres_url, name="test", schema="telemetry", migrations=None, size=1)
    try:
        store = PostgresStore(pool)
        days = tuple(clock.noon.date() - timedelta(days=ago) for ago in (50, 40))
        await store.keep_up(Upkeep(create=days, thin=(), drop=()), timedelta())
        await pool.execute(f"CREATE VIEW somebodys AS SELECT * FROM telemetry.{table(clock, -50)}")
        with pytest.raises(StoreRefuses):
            await store.keep_up(Upkeep(create=(), thin=(), drop=days), timedelta())
    finally:
        await pool.close()
    left = await partitions(postgres_url)
    assert (table(clock, -50) in left, table(clock, -40) in left) == (True, False)


async def test_the_service_goes_on_when_the_store_refuses_to_look_after_its_partitions(
    service: Running,
    client: TelemetryClient,
    edge: TokenSource,
    make_settings: Callable[..., TelemetrySettings],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "UPKEEP", 0.01)
    monkeypatch.setattr(background, "FIRST_WITHIN", 0.01)
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute("ALTER TABLE telemetry.days RENAME COLUMN thinned TO gone")
    finally:
        await connection.close()
    with capture_logs() as logged:
        async with running("telemetry", make_settings(TelemetrySettings, otlp_port=0), build) as second:
            async with asyncio.timeout(30):
                while not any(entry.get("work") == "partitions" for entry in logged):
                    await asyncio.sleep(0.01)
            assert not second.failed.done()
    trace_id = new_trace_id()
    await send(service, edge, export([SpanMade(trace_id, tenant_id="demo")]))
    await stored(client, 1)
