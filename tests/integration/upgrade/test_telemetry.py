"""Telemetry on the database of the version before: traces are read and found as they were."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import zstandard

import services.telemetry
from services.runtime.postgres import open_pool
from services.telemetry.domain.traces import Filters
from services.telemetry.postgres.store import PostgresStore
from tests.integration.upgrade.before import restore

MIGRATIONS = Path(next(iter(services.telemetry.__path__))) / "migrations"


async def test_traces_of_before_are_read_and_found(postgres_url: str) -> None:
    now = datetime.now(UTC)
    connection = await asyncpg.connect(postgres_url)
    await restore(connection, "telemetry", MIGRATIONS)
    await connection.execute("CREATE TABLE telemetry.pieces_all PARTITION OF telemetry.pieces DEFAULT")
    await connection.execute(
        "INSERT INTO telemetry.pieces (trace_id, tenant_id, name, started_at, ended_at, stored_at, span_count,"
        " has_error, services, spans) VALUES ('\\x01', 'acme', 'root', $1, $1, $1, 1, false, ARRAY['edge'], $2)",
        now - timedelta(minutes=1),
        zstandard.ZstdCompressor().compress(b"spans"),
    )
    await connection.close()
    pool = await open_pool(postgres_url, name="test", schema="telemetry", migrations=MIGRATIONS, size=1)
    store = PostgresStore(pool)
    (piece,) = await store.of_trace(b"\x01", "acme")
    assert (piece.spans, piece.outside) == (b"spans", False)
    (found,) = await store.find(Filters("acme", "", errors_only=False, min_duration=timedelta()), None, 10)
    assert found.name == "root"
    await pool.close()
