"""What is remembered of people does not grow for ever."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from services.context.postgres.retention import plan
from services.kernel.clock import SystemClock
from services.runtime import background, retention
from services.runtime.postgres import Pool
from services.runtime.retention import Retention, Task

CONTACT = """
INSERT INTO context.contacts (tenant_id, contact_id, version, data, expires_at)
VALUES ('acme', $1, 3, '\\x01', now() + $2::interval)
"""
IDENTITY = """
INSERT INTO context.identities (tenant_id, digest, kind, value, contact_id, created_at)
VALUES ('acme', $1, 1, '\\x01', $2, now() + $3::interval)
"""
CONVERSATION = """
INSERT INTO context.conversations (tenant_id, conversation_id, contact_id, version, data, expires_at)
VALUES ('acme', $1, $2, 3, $3, now() + $4::interval)
"""


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself does not tidy meanwhile."""
    monkeypatch.setattr(background, "FIRST_WITHIN", 3600.0)


@pytest.fixture
async def pool(start: Callable[..., Any], postgres_url: str) -> AsyncIterator[Pool]:
    await start()
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
        yield pool


async def tidy(pool: Pool, days: int = 400) -> None:
    async def tasks(_: datetime) -> list[Task]:
        return [*plan(datetime.now(UTC), days, timedelta(days=1))]

    tidying = Retention("context", pool, SystemClock(), tasks)
    while await tidying.look():
        pass


async def identify(pool: Pool, contact: UUID, days: int, digest: bytes = b"") -> None:
    await pool.execute(IDENTITY, digest or contact.bytes, contact, timedelta(days=days))


async def converse(pool: Pool, contact: UUID, days: int, data: bytes = b"\x01") -> UUID:
    conversation = uuid4()
    await pool.execute(CONVERSATION, conversation, contact, data, timedelta(days=days))
    return conversation


async def identified(pool: Pool) -> set[UUID]:
    return {row["contact_id"] for row in await pool.fetch("SELECT contact_id FROM context.identities")}


async def test_expired_contacts_are_emptied_and_removed_in_the_end(pool: Pool) -> None:
    known, lately, long_ago = [uuid4() for _ in range(3)]
    for contact, days in ((known, 1), (lately, -10), (long_ago, -401)):
        await pool.execute(CONTACT, contact, timedelta(days=days))
        await identify(pool, contact, -500)
    await tidy(pool)
    rows = await pool.fetch("SELECT contact_id, version, data FROM context.contacts")
    assert {row["contact_id"]: (row["version"], row["data"]) for row in rows} == {known: (3, b"\x01"), lately: (3, b"")}
    assert await identified(pool) == {known, lately}
    told = {row["task"]: row["removed"] for row in await pool.fetch("SELECT task, removed FROM context.upkeep")}
    assert (told["expired contacts"], told["unused identities"]) == (1, 1)


async def test_people_of_whom_nothing_was_ever_saved_are_forgotten_too(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT", 2)
    gone, seen, talks, young = [uuid4() for _ in range(4)]
    for contact, days in ((gone, -401), (seen, -401), (talks, -401), (young, -399)):
        await identify(pool, contact, days)
        await identify(pool, contact, days, b"phone" + contact.bytes)
    await pool.execute("UPDATE context.identities SET seen_at = now() WHERE contact_id = $1", seen)
    await converse(pool, talks, 1)
    await tidy(pool, days=0)
    assert await identified(pool) == {gone, seen, talks, young}, "0 is for ever"
    await tidy(pool)
    assert await identified(pool) == {seen, talks, young}


async def test_a_person_who_still_talks_keeps_their_contact(pool: Pool) -> None:
    contact = uuid4()
    await pool.execute(CONTACT, contact, timedelta(days=-401))
    await identify(pool, contact, -401)
    conversation = await converse(pool, contact, 1)
    await tidy(pool)
    assert await pool.fetchval("SELECT data FROM context.contacts") == b""
    assert await identified(pool) == {contact}
    await pool.execute("DELETE FROM context.conversations WHERE conversation_id = $1", conversation)
    await tidy(pool)
    assert await pool.fetchval("SELECT count(*) FROM context.contacts") == 0
    assert await identified(pool) == set()


async def test_expired_conversations_are_emptied_and_removed_in_the_end(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT", 2)
    contact = uuid4()
    ends = {await converse(pool, contact, days): days for days in (1, -1, -2, 3, -400)}
    emptied = [await converse(pool, contact, days, b"") for days in (-399, -401)]
    before = await converse(pool, contact, 0, b"")
    await pool.execute("UPDATE context.conversations SET expires_at = 'infinity' WHERE conversation_id = $1", before)
    await tidy(pool)
    rows = await pool.fetch("SELECT conversation_id, version, data FROM context.conversations")
    assert {row[0]: (row[1], row[2]) for row in rows} == {
        conversation: (3, b"\x01" if days > 0 else b"") for conversation, days in ends.items()
    } | {emptied[0]: (3, b""), before: (3, b"")}
    clocks = "SELECT count(*) FROM context.conversations WHERE data = '' AND expires_at > now() - interval '1 hour'"
    assert await pool.fetchval(clocks) == 4, "their time begins when they are emptied"


async def test_looking_somebody_up_is_noted_once_a_day(start: Callable[..., Any], pool: Pool) -> None:
    client = await start()
    request = context_pb2.GetContextRequest(tenant_id="acme", conversation_id=str(uuid4()))
    request.sender.identity.kind = identity_pb2.IDENTITY_KIND_TELEGRAM
    request.sender.identity.value = "77"
    found = await client.get_context(request)
    seen = "SELECT seen_at FROM context.identities"
    assert (await client.get_context(request)).contact_id == found.contact_id
    assert await pool.fetchval(seen) is None
    await pool.execute("UPDATE context.identities SET created_at = now() - interval '401 days'")
    assert (await client.get_context(request)).contact_id == found.contact_id
    noted = await pool.fetchval(seen)
    assert datetime.now(UTC) - noted < timedelta(minutes=5)
    await tidy(pool)
    assert (await client.get_context(request)).contact_id == found.contact_id
    assert await pool.fetchval(seen) == noted
