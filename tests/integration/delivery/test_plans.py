"""The hot statements look rows up by index, whether the tables are empty, full, or full and not yet analysed."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest

import services.delivery
from services.delivery.postgres.outbox import QUERIES as OUTBOX
from services.delivery.postgres.statuses import QUERIES as STATUSES
from services.runtime.migrations import migrate

HOT = ("store", "known", "waiting", "start", "record")


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_url)
    await migrate(connection, "delivery", Path(next(iter(services.delivery.__path__))) / "migrations")
    yield connection
    await connection.close()


async def scanned(
    connection: "asyncpg.Connection[asyncpg.Record]", query: str, big: Sequence[str] = ("deliveries", "lanes")
) -> list[str]:
    """The big tables that a generic plan of this statement reads from end to end."""
    await connection.execute(f"PREPARE hot AS {query}")
    nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", query))))
    lines = [row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE hot ({nothing})")]
    await connection.execute("DEALLOCATE hot")
    return [line.strip() for line in lines if "Seq Scan on" in line and any(name in line for name in big)]


@pytest.mark.parametrize("analysed", [False, True])
async def test_hot_statements_scan_no_table(connection: "asyncpg.Connection[asyncpg.Record]", analysed: bool) -> None:
    await connection.execute("SET jit = off; SET plan_cache_mode = force_generic_plan")
    for name in HOT:
        assert await scanned(connection, OUTBOX[name]) == [], f"{name} on empty tables"
    await connection.execute(
        """
        INSERT INTO delivery.lanes (lane_id, tenant_id, next_seq, pending, due_at)
        SELECT md5(n::text)::uuid, 't', 51, 50, now() FROM generate_series(1, 1000) AS n;
        INSERT INTO delivery.deliveries (delivery_id, conversation_id, lane_id, seq, channel_key, reply_index,
            tenant_id, request_id, channel_id, chat_id, traceparent, tracestate, text)
        SELECT gen_random_uuid(), gen_random_uuid(), md5((n % 1000 + 1)::text)::uuid, n / 1000 + 1, 1, 0, 't',
            n::text, 'c', 'chat', '', '', repeat('text', 20)
        FROM generate_series(0, 49999) AS n
        """
    )
    if analysed:
        await connection.execute("ANALYZE delivery.lanes; ANALYZE delivery.deliveries")
    for name in HOT:
        assert await scanned(connection, OUTBOX[name]) == [], f"{name} on full tables"


async def test_looking_for_statuses_scans_no_table(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(
        """
        SET jit = off; SET plan_cache_mode = force_generic_plan;
        INSERT INTO delivery.statuses (channel_key, dedupe_key, provider_message_id, external_id, status, at, error,
            matched, look_at)
        SELECT 1, n::text, n::text, '', 2, now(), '', n % 2 = 0, now() FROM generate_series(1, 50000) AS n;
        ANALYZE delivery.statuses
        """
    )
    for name in ("early", "unmatched", "look", "matched", "find"):
        assert await scanned(connection, STATUSES[name], ["statuses"]) == [], name
