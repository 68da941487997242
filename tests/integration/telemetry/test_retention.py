"""A tenant may have its traces kept for fewer days than the settings say."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley.dialog.v1 import tenant_pb2, tenant_pb2_grpc

import services.telemetry
from services.kernel.clock import SystemClock
from services.runtime import background
from services.runtime.postgres import Pool, open_pool
from services.runtime.retention import Retention
from services.runtime.service import running
from services.telemetry.domain.traces import Piece
from services.telemetry.postgres import retention
from services.telemetry.postgres.retention import plan
from services.telemetry.postgres.store import PostgresStore
from services.telemetry.settings import TelemetrySettings
from services.telemetry.wiring import build

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


class Dialog(tenant_pb2_grpc.TenantServiceServicer):
    """Knows one tenant."""

    async def GetTenant(self, request: Any, context: Any) -> tenant_pb2.GetTenantResponse:
        if request.tenant_id != "short":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such tenant")
        kept = tenant_pb2.Retention(spans_days=3)
        return tenant_pb2.GetTenantResponse(tenant=tenant_pb2.Tenant(tenant_id="short", retention=kept))


async def test_the_service_asks_dialog(
    pool: Pool, make_settings: Callable[..., TelemetrySettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_WITHIN", 0.01)
    await store(pool, "short", 4)
    kept = {await store(pool, "short", 2), await store(pool, "unknown", 4)}
    server = grpc.aio.server()
    tenant_pb2_grpc.add_TenantServiceServicer_to_server(Dialog(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    settings = make_settings(TelemetrySettings, otlp_port=0, dialog_address=address, retention_every_seconds=0.2)
    async with running("telemetry", settings, build), asyncio.timeout(30):
        while await left(pool) != kept:
            await asyncio.sleep(0.05)
    await server.stop(None)
