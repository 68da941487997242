"""What is remembered of people does not grow for ever."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.context.postgres import SQL
from services.kernel.clock import SystemClock
from services.runtime import periodic, retention
from services.runtime.retention import Retention, walking

INSERT = """
INSERT INTO context.contacts (tenant_id, contact_id, version, data, expires_at)
VALUES ('acme', $1, 3, '\\x01', now() + $2::interval)
"""
IDENTITY = """
INSERT INTO context.identities (tenant_id, digest, kind, value, contact_id) VALUES ('acme', $1, 1, '\\x01', $2)
"""


async def test_expired_contacts_are_emptied_and_removed_in_the_end(
    start: Callable[..., Any], postgres_url: str
) -> None:
    await start(retention_messages_days=0)
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=2)
    known, lately, long_ago = [uuid4() for _ in range(3)]
    for contact, days in ((known, 1), (lately, -10), (long_ago, -401)):
        await pool.execute(INSERT, contact, timedelta(days=days))
        await pool.execute(IDENTITY, contact.bytes, contact)

    async def plan(_: datetime) -> list[Any]:
        return [walking("expired contacts", SQL["forget_contacts"], datetime.now(UTC) - timedelta(days=400))]

    tidying = Retention("context", pool, SystemClock(), plan)
    while await tidying.look():
        await asyncio.sleep(0)
    rows = await pool.fetch("SELECT contact_id, version, data FROM context.contacts")
    assert {row["contact_id"]: (row["version"], row["data"]) for row in rows} == {known: (3, b"\x01"), lately: (3, b"")}
    left = {row["contact_id"] for row in await pool.fetch("SELECT contact_id FROM context.identities")}
    assert left == {known, lately}
    assert await pool.fetchval("SELECT removed FROM context.upkeep") == 1
    await pool.close()


async def test_expired_conversations_are_emptied_wherever_they_lie(
    start: Callable[..., Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT", 2)
    monkeypatch.setattr(periodic, "FIRST_WITHIN", 3600.0)
    await start()
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=2)
    ends = {uuid4(): days for days in (1, -1, -2, 3, -400)}
    for conversation, days in ends.items():
        await pool.execute(
            "INSERT INTO context.conversations (tenant_id, conversation_id, contact_id, version, data, expires_at)"
            " VALUES ('acme', $1, $1, 3, '\\x01', now() + $2::interval)",
            conversation,
            timedelta(days=days),
        )

    async def plan(_: datetime) -> list[Any]:
        return [walking("expired conversations", SQL["forget_conversations"])]

    tidying = Retention("context", pool, SystemClock(), plan)
    while await tidying.look():
        await asyncio.sleep(0)
    rows = await pool.fetch("SELECT conversation_id, version, data FROM context.conversations")
    assert {row[0]: (row[1], row[2]) for row in rows} == {
        conversation: (3, b"\x01" if days > 0 else b"") for conversation, days in ends.items()
    }
    assert await pool.fetchval("SELECT removed FROM context.upkeep") == 3
    await pool.close()
