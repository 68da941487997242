"""Postgres and Redis go away and come back; statements stay fast when tables are large."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from parley_client.errors import CallError, Unavailable
from parley_client.tokens import TokenSource
from services.dialog.postgres.queries import load
from services.dialog.settings import DialogSettings
from tests.integration.dialog.conftest import World, submission, until
from tests.integration.dialog.peers import Peers
from tests.integration.dialog.test_chat import asking, talk


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


async def test_postgres_away_is_said_at_once_and_nothing_acknowledged_is_lost(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource], own_postgres: EmbeddedPostgres
) -> None:
    settings = make_settings(DialogSettings)
    async with Peers(settings) as peers, World(make_settings, peers, tokens_as) as world:
        await world.start(database_url=own_postgres.url, dialog_lease_seconds=2.0)
        await world.prepare()
        await world.ends((await world.submit("before")).message_id)
        world.flow.held = asyncio.Event()
        under_way = await world.submit("under way")
        await until(lambda: _true(len(world.flow.asked) == 2))
        await asyncio.to_thread(own_postgres.stop)
        started = monotonic()
        with pytest.raises(Unavailable) as raised:
            await world.dialog.submit_message(submission("while away"), timeout=90)
        assert (raised.value.reason, raised.value.metadata) == ("STORAGE_UNAVAILABLE", {"store": "postgres"})
        assert monotonic() - started < 30, "the call has a minute and a half"
        world.flow.held.set()
        await asyncio.to_thread(own_postgres.start)

        async def taken() -> str | None:
            try:
                request = submission("after", dedupe_key="after")
                return (await world.dialog.submit_message(request, timeout=10)).message_id
            except CallError:
                return None

        await world.ends(await until(taken, 60))
        await world.ends(under_way.message_id)
        assert world.delivery.texts() == ["1: before", "2: under way", "3: after"]


async def test_redis_away_costs_no_message(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource], own_redis: EmbeddedRedis
) -> None:
    settings = make_settings(DialogSettings)
    async with Peers(settings) as peers, World(make_settings, peers, tokens_as) as world:
        for _ in range(2):
            await world.start(redis_url=own_redis.url, dialog_workers=1)
        await world.prepare()
        await world.ends((await world.submit("before")).message_id)
        await asyncio.to_thread(own_redis.stop)
        responses = [await world.submit("during", chat=str(number)) for number in range(5)]
        for response in responses:
            await world.ends(response.message_id)


async def test_redis_away_delays_a_chat_by_a_second_or_so(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource], own_redis: EmbeddedRedis
) -> None:
    settings = make_settings(DialogSettings)
    async with Peers(settings) as peers, World(make_settings, peers, tokens_as) as world:
        await world.start(redis_url=own_redis.url, dialog_workers=0)
        await world.start(redis_url=own_redis.url)
        await world.prepare()
        await talk(world, asking())
        await asyncio.to_thread(own_redis.stop)
        began = monotonic()
        assert (await talk(world, asking()))[-1].final.reply == "2: hi there"
        assert monotonic() - began < 30, "the call has a minute"


async def _true(value: object) -> object:
    return value


def parameters(sql: str) -> int:
    return max(int(number) for number in re.findall(r"\$(\d+)", sql))


async def test_no_statement_scans_a_large_table(world: World) -> None:
    """With 100,000 messages; the hot statements even with the plan that is made once for any arguments."""
    await world.start(dialog_workers=0)
    await world.database.execute(FILL)
    async with world.database.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for file, name in HOT:
            sql = load(file)[name]
            await connection.execute(f"PREPARE {name} AS {sql}")
            nothing = ", ".join(["NULL"] * parameters(sql))
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name} ({nothing})"))
            assert not re.findall(rf"Seq Scan on {LARGE}", plan), plan


LARGE = "(?:messages|lanes|turns|conversations|replies)"
HOT = [
    ("inbox", "add"),
    ("turns", "read_claimed"),
    ("turns", "commit_plans"),
    ("turns", "finish"),
    ("answered", "answered"),
]
FILL = """
INSERT INTO dialog.conversations (conversation_id, tenant_id, channel_id, bot_id, chat_id)
SELECT md5(n::text)::uuid, 't', 'c', 'b', n::text FROM generate_series(1, 20000) AS n;
INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, done_seq, pending, due_at)
SELECT md5(n::text)::uuid, 't', 6, CASE WHEN n % 200 = 0 THEN 4 ELSE 5 END, (n % 200 = 0)::int,
    CASE WHEN n % 200 = 0 THEN now() END
FROM generate_series(1, 20000) AS n;
INSERT INTO dialog.messages
    (tenant_id, message_id, conversation_id, seq, channel_id, bot_id, request, received_at, state)
SELECT 't', md5(n || '/' || s)::uuid, md5(n::text)::uuid, s, 'c', 'b', '', now(),
    CASE WHEN n % 200 = 0 AND s = 5 THEN 1 WHEN n % 333 = 0 AND s = 5 THEN 5 ELSE 3 END
FROM generate_series(1, 20000) AS n, generate_series(1, 5) AS s;
INSERT INTO dialog.turns (conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, state, started_at)
SELECT conversation_id, seq, seq, message_id, 't', message_id, 2, now() FROM dialog.messages WHERE state = 3;
INSERT INTO dialog.replies (turn_id, index, state) SELECT turn_id, 0, 2 FROM dialog.turns;
ANALYZE dialog.conversations, dialog.lanes, dialog.messages, dialog.turns, dialog.replies;
"""
