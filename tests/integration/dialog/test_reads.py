"""What operators read, at a million messages in 15 stretches: every filter, with any plan, in a few milliseconds."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from parley.dialog.v1 import dialog_pb2, order_pb2

from parley_client.errors import CallError
from services.dialog.postgres.listing import SQL
from services.dialog.postgres.partitions import PARTITIONS
from services.runtime.postgres import PoolConnection
from tests.integration.dialog.conftest import TENANT, World, until
from tests.support.machine import Pace
from tests.support.reads import best_time, most_blocks

MESSAGES = 1_000_000
BAR = 0.05
BLOCKS = 10_000
"""What any read may look at: of the messages alone there are twice as many."""
TERMINAL, FAILED = dialog_pb2.MESSAGE_STATE_TERMINAL, dialog_pb2.MESSAGE_STATE_FAILED
COMPLETED, RECEIVED = dialog_pb2.MESSAGE_STATE_COMPLETED, dialog_pb2.MESSAGE_STATE_RECEIVED

FILL = """
CREATE FUNCTION pg_temp.id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(($BEGIN + n * $STEP)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid $$;
-- A fifth of all in one conversation and half of all in one channel; one other tenant; 30,000 rejected, 3,000 dead.
INSERT INTO dialog.messages (tenant_id, message_id, conversation_id, seq, channel_id, bot_id, request, received_at,
    state, rejection)
SELECT CASE WHEN n % 20 = 7 THEN 'other' ELSE 'acme' END, pg_temp.id_of(n),
    md5((CASE WHEN n % 5 = 0 THEN 0 ELSE n % 5000 END)::text)::uuid, n,
    CASE WHEN n % 2 = 0 THEN 'big' ELSE 'channel-' || n % 50 END, 'bot', '', now(),
    CASE WHEN n % 33 = 1 OR n % 333 = 2 THEN 5 WHEN n > $COUNT - 300 AND n % 3 = 1 THEN 1 ELSE 3 END,
    CASE WHEN n % 33 = 1 THEN 2 ELSE 0 END
FROM generate_series(1, $COUNT) AS n;
INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, done_seq, pending, due_at)
SELECT md5(n::text)::uuid, 'acme', $COUNT + 1, $COUNT - (n >= 4900)::int, (n >= 4900)::int,
    CASE WHEN n >= 4900 THEN now() END
FROM generate_series(0, 4999) AS n;
INSERT INTO dialog.conversations (conversation_id, tenant_id, channel_id, bot_id, chat_id, active_at)
SELECT md5(n::text)::uuid, 'acme', 'channel-' || n % 50, 'bot', n::text, now() - n * interval '1 minute'
FROM generate_series(0, 199999) AS n;
INSERT INTO dialog.orders (tenant_id, order_id, turn_id, index, bot_id, channel_id, conversation_id, message_id,
    form_id, fields, created_at)
SELECT 'acme', pg_temp.id_of(n), pg_temp.id_of(n), 0, 'bot-' || n % 3, 'big', md5((n % 5000)::text)::uuid,
    pg_temp.id_of(n), 'water', '{}', now()
FROM generate_series(1, 200000) AS n;
ANALYZE dialog.messages, dialog.lanes, dialog.conversations, dialog.orders;
"""


async def fill(connection: PoolConnection, count: int = MESSAGES, days: int = 390) -> None:
    """A year of messages, as they lie after a year."""
    now = datetime.now(UTC)
    begin = now - timedelta(days=days)
    for table in PARTITIONS.tables:
        await connection.execute(f"DROP TABLE IF EXISTS dialog.{table.name}_first")
    for age in range(days, -1, -5):
        await until(partial(made, connection, now - timedelta(days=age)))
    step = timedelta(days=days).total_seconds() * 1000 / count
    words = {"$BEGIN": int(begin.timestamp() * 1000), "$STEP": step, "$COUNT": count}
    sql = FILL
    for word, value in words.items():
        sql = sql.replace(word, str(value))
    await connection.execute(sql, timeout=300)


async def made(connection: PoolConnection, at: datetime) -> bool:
    """Whether the stretches of that time are there; the process that runs beside this may hold them up."""
    try:
        async with connection.transaction():
            await PARTITIONS.make(connection, at)
    except asyncpg.LockNotAvailableError:
        return False
    return True


def messages(**filters: Any) -> Callable[[World], Any]:
    return lambda world: world.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT, **filters))


BIG, SMALL = "cfcd2084-95d5-65ef-66e7-dff9f98764da", "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
READS: dict[str, Callable[[World], Any]] = {
    "all": messages(),
    "conversation": messages(conversation_id=BIG),
    "small conversation": messages(conversation_id=SMALL),
    "channel": messages(channel_id="big"),
    "small channel": messages(channel_id="channel-7"),
    "no channel": messages(channel_id="none"),
    "dead": messages(states=[TERMINAL]),
    "failed": messages(states=[FAILED]),
    "waiting": messages(states=[RECEIVED]),
    "open": messages(states=[RECEIVED, FAILED, TERMINAL]),
    "completed": messages(states=[COMPLETED]),
    "dead of a channel": messages(states=[TERMINAL], channel_id="channel-7"),
    "completed of a channel": messages(states=[COMPLETED], channel_id="big"),
    "dead of a conversation": messages(states=[TERMINAL], conversation_id=SMALL),
    "channel and conversation": messages(channel_id="channel-1", conversation_id=SMALL),
    "conversations": lambda world: world.dialog.list_conversations(
        dialog_pb2.ListConversationsRequest(tenant_id=TENANT)
    ),
    "conversations of a channel": lambda world: world.dialog.list_conversations(
        dialog_pb2.ListConversationsRequest(tenant_id=TENANT, channel_id="channel-7")
    ),
    "orders": lambda world: world.orders.list_orders(order_pb2.ListOrdersRequest(tenant_id=TENANT)),
    "orders of a bot": lambda world: world.orders.list_orders(
        order_pb2.ListOrdersRequest(tenant_id=TENANT, bot_id="bot-1")
    ),
    "orders of a conversation": lambda world: world.orders.list_orders(
        order_pb2.ListOrdersRequest(tenant_id=TENANT, conversation_id=SMALL)
    ),
    "stats": lambda world: world.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id=TENANT)),
    "stats of all": lambda world: world.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest()),
}


async def test_operators_reads_take_milliseconds_at_a_million_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.dialog.postgres.listing.SECONDS", 60.0)  # on a slow machine too a page is full
    await world.start(dialog_workers=0)
    async with world.database.acquire() as connection:
        await fill(connection)
        for mode in ("auto", "force_generic_plan"):
            name = await connection.fetchval("SELECT current_database()")
            await connection.execute(f"ALTER DATABASE {name} SET plan_cache_mode = {mode}")
            pool = world.processes[0].app.servicers[0][2]._messages._reads._listing._pool._pool
            await pool.expire_connections()
            blocks = {what: await most_blocks(partial(read, world)) for what, read in READS.items()}
            assert max(blocks.values()) < BLOCKS, f"with plan_cache_mode = {mode}: {blocks}"
            pace = Pace()
            taken = {what: await best_time(partial(read, world), BAR) for what, read in READS.items()}
            assert max(taken.values()) <= pace.scaled(BAR), f"with plan_cache_mode = {mode}: {taken}"
    found = await READS["dead of a channel"](world)
    assert all(message.state == TERMINAL and message.channel_id == "channel-7" for message in found.messages)
    assert len(found.messages) == 50
    waiting = await READS["waiting"](world)
    assert {message.state for message in waiting.messages} <= {RECEIVED}


async def test_a_read_that_takes_too_long_is_stopped_and_takes_no_connection_of_webhooks(world: World) -> None:
    await world.start(dialog_workers=0, postgres_read_seconds=0.2, postgres_read_pool_size=1, postgres_pool_size=1)
    await world.prepare()
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE dialog.orders IN ACCESS EXCLUSIVE MODE")
        listing = asyncio.create_task(READS["orders"](world))
        await world.submit("taken meanwhile")
        with pytest.raises(CallError) as raised:
            await listing
    assert raised.value.reason == "READ_TOO_LONG"
    assert "narrow" in raised.value.message
    assert (await READS["orders"](world)).orders == []


async def test_pages_of_a_rare_filter_reach_all_that_match(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may be short when few of many match: the token goes on where the search ended."""
    monkeypatch.setattr("services.dialog.postgres.listing.WINDOW", 3)
    monkeypatch.setattr("services.dialog.postgres.listing.SECONDS", 0.0)
    await world.start(dialog_workers=0)
    await world.prepare()
    wanted: list[str] = []
    for number in range(20):
        response = await world.submit(chat=str(number), channel_id="rare" if number % 9 == 0 else "channel")
        wanted.insert(0, response.message_id)
        wanted = wanted if number % 9 == 0 else wanted[1:]
    found, token, pages = [], "", 0
    while True:
        request = dialog_pb2.ListMessagesRequest(
            tenant_id=TENANT, states=[RECEIVED, COMPLETED], channel_id="rare", page_size=1, page_token=token
        )
        page = await world.dialog.list_messages(request)
        found += [UUID(message.message_id) for message in page.messages]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert [str(each) for each in found] == wanted


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_the_counts_of_a_small_tenant_do_not_walk_over_the_queue_of_a_large_one(world: World, mode: str) -> None:
    await world.start(dialog_workers=0)
    async with world.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, pending, due_at, share)"
            " SELECT gen_random_uuid(), CASE WHEN n % 3000 = 0 THEN 'small' ELSE 'big-' || n % 50 END, 2, 1,"
            " now() - n * interval '1 ms', 'bot' FROM generate_series(1, 60000) AS n"
        )
        await connection.execute("ANALYZE dialog.lanes")
        await connection.execute(f"SET plan_cache_mode = {mode}")
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS off) {SQL['queue_stats']}", "small", 10_000)
        plan = "\n".join(row[0] for row in rows)
        assert "lanes_by_share" in plan, plan
        assert "lanes_claimable" not in plan, plan
