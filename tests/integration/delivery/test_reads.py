"""What operators read of many deliveries in 13 stretches: every filter, with any plan, in a few milliseconds."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from parley.delivery.v1 import delivery_pb2

from parley_client.delivery import DeliveryClient
from services.delivery.postgres import reading
from services.delivery.postgres.partitions import PARTITIONS
from tests.integration.delivery.conftest import DEAD, PENDING, SENT, TENANT, UNKNOWN, Delivery, World, message
from tests.support.machine import Pace
from tests.support.pages import pages
from tests.support.reads import best_time, most_blocks

COUNT, DAYS, BAR = 300_000, 84, 0.05
BLOCKS = 6_000
"""What any read may look at: of the deliveries alone there are more."""

FILL = """
CREATE FUNCTION pg_temp.id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(($BEGIN + n * $STEP)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid $$;
INSERT INTO delivery.deliveries (delivery_id, conversation_id, lane_id, seq, channel_key, reply_index, tenant_id,
    request_id, channel_id, chat_id, traceparent, tracestate, text, message_id, state, parts)
SELECT pg_temp.id_of(n), md5((n % 5000)::text)::uuid, md5((n % 5000)::text)::uuid, n, 1, 0,
    CASE WHEN n % 20 = 7 THEN 'other' ELSE 'acme' END, n::text,
    CASE WHEN n % 2 = 0 THEN 'big' ELSE 'channel-' || n % 50 END,
    'chat', '', '', 'text', pg_temp.id_of(n), 3, ('[[' || CASE WHEN n % 100 = 1 THEN 5 ELSE 3 END || ']]')::json
FROM generate_series(1, $COUNT) AS n;
INSERT INTO delivery.dead (tenant_id, delivery_id, dead_parts)
SELECT 'acme', pg_temp.id_of(n), 1 FROM generate_series(1, $COUNT, 100) AS n;
INSERT INTO delivery.lanes (lane_id, tenant_id, next_seq, done_seq, pending, due_at)
SELECT md5(n::text)::uuid, 'acme', $COUNT + 1, $COUNT - (n >= 4900)::int, (n >= 4900)::int,
    CASE WHEN n >= 4900 THEN now() + interval '1 hour' END
FROM generate_series(0, 4999) AS n;
ANALYZE delivery.deliveries, delivery.lanes, delivery.dead;
"""


async def fill(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    now = datetime.now(UTC)
    for table in PARTITIONS.tables:
        await connection.execute(f"DROP TABLE delivery.{table.name}_first")
    for age in range(DAYS, -1, -5):
        async with connection.transaction():
            await PARTITIONS.make(connection, now - timedelta(days=age))
    begin = int((now - timedelta(days=DAYS)).timestamp() * 1000)
    sql = FILL.replace("$BEGIN", str(begin)).replace("$COUNT", str(COUNT))
    await connection.execute(sql.replace("$STEP", str(DAYS * 86_400_000 / COUNT)), timeout=300)


def deliveries(**filters: Any) -> Callable[[DeliveryClient], Awaitable[Any]]:
    return lambda client: client.list_deliveries(delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, **filters))


READS: dict[str, Callable[[DeliveryClient], Awaitable[Any]]] = {
    "all": deliveries(),
    "channel": deliveries(channel_id="big"),
    "small channel": deliveries(channel_id="channel-7"),
    "no channel": deliveries(channel_id="none"),
    "message": deliveries(message_id="0193a000-0000-7000-8000-000000000001"),
    "dead": deliveries(part_state=DEAD),
    "dead of a channel": deliveries(part_state=DEAD, channel_id="channel-1"),
    "pending": deliveries(part_state=PENDING),
    "unknown of a channel": deliveries(part_state=UNKNOWN, channel_id="big"),
    "sent": deliveries(part_state=SENT),
    "sent by a channel": deliveries(part_state=SENT, channel_id="channel-7"),
    "stats": lambda client: client.get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT)),
    "stats of all": lambda client: client.get_queue_stats(delivery_pb2.GetQueueStatsRequest()),
}


async def test_operators_reads_take_milliseconds(
    world: World, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SECONDS", 60.0)  # on a slow machine too a page is full
    connection = await asyncpg.connect(postgres_url)
    name = await connection.fetchval("SELECT current_database()")
    async with world.serving():
        pass  # the tables are there
    await fill(connection)
    for mode in ("auto", "force_generic_plan"):
        await connection.execute(f"ALTER DATABASE {name} SET plan_cache_mode = {mode}")
        async with world.serving() as service:
            client = service.as_("operator")[0]
            blocks = {what: await most_blocks(partial(read, client)) for what, read in READS.items()}
            assert max(blocks.values()) < BLOCKS, f"with plan_cache_mode = {mode}: {blocks}"
            pace = Pace()
            taken = {what: await best_time(partial(read, client), BAR) for what, read in READS.items()}
            assert max(taken.values()) <= pace.scaled(BAR), f"with plan_cache_mode = {mode}: {taken}"
            dead = await READS["dead of a channel"](client)
            assert len(dead.deliveries) == 50
            assert {each.channel_id for each in dead.deliveries} == {"channel-1"}
    await connection.close()


async def test_pages_of_a_rare_filter_reach_all_that_match(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WINDOW", 3)
    monkeypatch.setattr(reading, "SECONDS", 0.0)
    for number in range(10):
        sent = await delivery.client.send_message(message("text", f"chat-{number}"))
        await delivery.until_state(sent.delivery_id, SENT)
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, part_state=SENT, page_size=2)
    listing = pages(delivery.as_("operator")[0].list_deliveries, request)
    found = [each.delivery_id async for page in listing for each in page.deliveries]
    assert len(found) == len(set(found)) == 10
    assert found == sorted(found, reverse=True)
