"""Deliveries do not grow for ever: old ones go, and what is still to be sent or told stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import web

from parley.delivery.v1 import channel_pb2, delivery_pb2

from services.delivery.postgres.partitions import PARTITIONS
from services.delivery.postgres.retention import plan
from services.kernel.clock import SystemClock
from services.runtime import background, partitions
from services.runtime.partitions import first_id
from services.runtime.postgres import Connection, Pool
from services.runtime.retention import Retention
from tests.integration.delivery.conftest import CHANNEL, DEAD, SENT, TENANT, Call, Delivery, World, message

NOW = datetime.now(UTC)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
TABLES = ("deliveries", "provider_ids", "dead", "lanes", "dedupe")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine nobody gives way too early, and the process itself does not tidy meanwhile."""
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '20s'")
    monkeypatch.setattr(background, "FIRST_WITHIN", 3600.0)


async def tidy(pool: Pool, days: dict[str, int], default: int = 90) -> None:
    async def days_of(tenant_id: str) -> int | None:
        return days.get(tenant_id)

    retention = Retention("delivery", pool, SystemClock(), lambda _: plan(pool, days_of, default, NOW))
    while await retention.look():
        pass


async def age(connection: Connection, delivery_id: str, days: int) -> str:
    """Make a delivery, with what belongs to it, as old as that; its new id. Its text is stored in clear again, as the
    seal is of the id."""
    old = UUID(int=first_id(NOW - timedelta(days=days)).int | (uuid4().int & (2**80 - 1)))
    at = NOW - timedelta(days=days)
    lane = await connection.fetchval(
        "UPDATE delivery.deliveries SET delivery_id = $2, created_at = $3, sealed_text = NULL WHERE delivery_id = $1"
        " RETURNING lane_id",
        UUID(delivery_id),
        old,
        at,
    )
    for table in ("provider_ids", "dead", "outcomes", "dedupe"):
        await connection.execute(
            f"UPDATE delivery.{table} SET delivery_id = $2 WHERE delivery_id = $1", UUID(delivery_id), old
        )
    await connection.execute("UPDATE delivery.dedupe SET created_at = $2 WHERE delivery_id = $1", old, at)
    await connection.execute("UPDATE delivery.lanes SET updated_at = $2 WHERE lane_id = $1", lane, at)
    return str(old)


async def counts(connection: Connection) -> dict[str, int]:
    return {table: await connection.fetchval(f"SELECT count(*) FROM delivery.{table}") for table in TABLES}


async def stretch(connection: Connection, days: int) -> None:
    for table in PARTITIONS.tables:
        await connection.execute(f"DROP TABLE IF EXISTS delivery.{table.name}_first")
    for old in range(days, -1, -5):
        async with connection.transaction():
            await PARTITIONS.make(connection, NOW - timedelta(days=old))


async def told(connection: Connection) -> None:
    """What became of deliveries is known to dialog: what is still to be told stays."""
    async with asyncio.timeout(30):
        while await connection.fetchval("SELECT count(*) FROM delivery.outcomes"):
            await asyncio.sleep(0.02)


async def sent(service: Delivery, chat: str, state: int = SENT) -> str:
    response = await service.client.send_message(message("text", chat, request_id=f"{chat}/0"))
    await service.until_state(response.delivery_id, state)
    return response.delivery_id


@pytest.fixture
async def connection(postgres_url: str, world: World) -> AsyncIterator[Connection]:
    async with world.serving():
        pass  # the tables are there
    connection = await asyncpg.connect(postgres_url)
    await stretch(connection, 120)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
        yield pool


async def test_old_deliveries_go_with_all_that_belongs_to_them(
    world: World, connection: Connection, pool: Pool
) -> None:
    async with world.serving(retention_deliveries_days=0) as service:
        await service.create_channel()
        await age(connection, await sent(service, "gone"), 110)
        world.receiver.fail(400)
        await age(connection, await sent(service, "dead", DEAD), 110)
        month = await age(connection, await sent(service, "month"), 40)
        await sent(service, "new")
        await told(connection)
        await tidy(pool, {TENANT: 90})
        assert await counts(connection) == {"deliveries": 2, "provider_ids": 2, "dead": 0, "lanes": 2, "dedupe": 1}
        await tidy(pool, {TENANT: 30})
        assert await counts(connection) == {"deliveries": 1, "provider_ids": 1, "dead": 0, "lanes": 1, "dedupe": 1}
        assert month not in {
            str(row[0]) for row in await connection.fetch("SELECT delivery_id FROM delivery.deliveries")
        }
        again = await service.client.send_message(message("text", "new", request_id="new/0"))
        assert again.duplicate


async def test_what_is_still_to_be_sent_outlives_its_time(world: World, connection: Connection, pool: Pool) -> None:
    async with world.serving(retention_deliveries_days=0, delivery_first_delay_seconds=5.0) as service:
        await service.create_channel()
        world.receiver.fail(500)
        response = await service.client.send_message(message("text", "waits"))
        while not world.receiver.calls:
            await service.get(response.delivery_id)
    old = await age(connection, response.delivery_id, 110)
    await tidy(pool, {TENANT: 90})
    await tidy(pool, {TENANT: 3}, default=3)
    assert (await counts(connection))["deliveries"] == 1
    async with world.serving(retention_deliveries_days=0) as service:
        await service.until_state(old, SENT)
        await told(connection)
    await tidy(pool, {TENANT: 3}, default=3)
    assert (await counts(connection))["deliveries"] == 0


async def test_tenants_that_cannot_be_asked_lose_nothing(world: World, connection: Connection, pool: Pool) -> None:
    async with world.serving(retention_deliveries_days=0) as service:
        await service.create_channel()
        await age(connection, await sent(service, "old"), 110)

    async def away(tenant_id: str) -> int | None:
        raise OSError("dialog is away")

    retention = Retention("delivery", pool, SystemClock(), lambda _: plan(pool, away, 90, NOW))
    with pytest.raises(OSError, match="away"):
        await retention.look()
    assert (await counts(connection))["deliveries"] == 1


@asynccontextmanager
async def held(postgres_url: str, delivery_id: str) -> AsyncIterator[None]:
    """Who changes that delivery waits."""
    connection = await asyncpg.connect(postgres_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM delivery.deliveries WHERE delivery_id = $1 FOR UPDATE", UUID(delivery_id))
        yield
    await connection.close()


async def test_a_dead_delivery_that_an_operator_sends_again_meanwhile_is_sent(
    world: World, connection: Connection, pool: Pool, postgres_url: str
) -> None:
    """DLV-2: retention has chosen two dead deliveries, and waits for the first; then the second is sent again."""
    async with world.serving(retention_deliveries_days=0) as service:
        await service.create_channel()
        await service.create_channel("forever", "forever")
        world.receiver.fail(400, times=2)
        chats = [await sent(service, chat, DEAD) for chat in ("first", "second")]
        await told(connection)
        first, second = [await age(connection, chat, days) for chat, days in zip(chats, (112, 110), strict=True)]
        answer = asyncio.Event()

        async def later(_: Call) -> web.StreamResponse:
            await answer.wait()
            return world.receiver.ok()

        world.receiver.answer = later
        async with held(postgres_url, first):
            tidying = asyncio.create_task(tidy(pool, {TENANT: 90, "forever": 0}))
            async with asyncio.timeout(30):
                while not await connection.fetchval(WAITING):
                    await asyncio.sleep(0.02)
            request = delivery_pb2.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=second, request_id="again")
            await service.as_("operator")[0].retry_delivery(request)
        await tidying
        left = await connection.fetch("SELECT delivery_id FROM delivery.deliveries")
        assert [str(row["delivery_id"]) for row in left] == [second]
        answer.set()
        await service.until_state(second, SENT)


async def test_what_was_sent_by_channels_that_are_gone_goes_too(
    world: World, connection: Connection, pool: Pool
) -> None:
    async with world.serving(retention_deliveries_days=0) as service:
        await service.create_channel()
        await service.create_channel("forever", "forever")
        await age(connection, await sent(service, "sent"), 110)
        world.receiver.fail(400)
        await age(connection, await sent(service, "dead", DEAD), 110)
        await told(connection)
        channels = service.as_("operator")[1]
        request = channel_pb2.DeleteChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="gone")
        await channels.delete_channel(request)
        await tidy(pool, {"forever": 0})
        assert await counts(connection) == {"deliveries": 0, "provider_ids": 0, "dead": 0, "lanes": 0, "dedupe": 0}
        assert await connection.fetchval("SELECT count(*) FROM delivery.deleted_channels") == 1
        await connection.execute("UPDATE delivery.deleted_channels SET deleted_at = now() - interval '8 days'")
        await tidy(pool, {"forever": 0})
        assert await connection.fetchval("SELECT count(*) FROM delivery.deleted_channels") == 0
