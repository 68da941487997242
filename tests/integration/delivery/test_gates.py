"""What closes a channel for a while or for good: an operator, a bad token, the breaker, a pause."""

import asyncio

import asyncpg
import pytest
from aiohttp import web

from parley.delivery.v1 import channel_pb2, delivery_pb2

from tests.integration.delivery.conftest import (
    CHANNEL,
    DEAD,
    PENDING,
    SENT,
    TENANT,
    Call,
    Delivery,
    World,
    enable,
    message,
    until,
)


async def test_a_bad_token_stops_the_channel_until_it_is_enabled_again(delivery: Delivery, world: World) -> None:
    world.receiver.fail(401, times=99)
    answer = await delivery.client.send_message(message("first"))
    channels = delivery.as_("operator")[1]

    async def broken() -> str:
        request = channel_pb2.GetChannelRequest(tenant_id=TENANT, channel_id=CHANNEL)
        return (await channels.get_channel(request)).channel.broken_reason

    assert (await until(broken)).startswith("HTTP 401")
    other = await delivery.client.send_message(message("second", chat="chat-2"))
    await until(lambda: _parked(world, 2))
    assert len(world.receiver.calls) == 1
    waiting = await delivery.get(answer.delivery_id)
    assert waiting.parts[0].attempts[0].failure == delivery_pb2.FAILURE_KIND_FATAL
    assert waiting.parts[0].state == PENDING
    world.receiver.answer = None
    await enable(delivery)
    await delivery.until_state(answer.delivery_id, SENT)
    await delivery.until_state(other.delivery_id, SENT)
    assert await broken() == ""


async def _parked(world: World, lanes: int) -> bool:
    """Whether a worker has looked at so many lanes and put them off for long."""
    connection = await asyncpg.connect(world.settings().database_url)
    try:
        later = "fence > 0 AND lease_until IS NULL AND due_at > now() + interval '10 seconds'"
        return bool(await connection.fetchval(f"SELECT count(*) FROM delivery.lanes WHERE {later}") == lanes)
    finally:
        await connection.close()


async def test_parts_of_a_disabled_channel_wait_for_it(delivery: Delivery, world: World) -> None:
    await delivery.as_("operator")[1].disable_channel(
        channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="1")
    )
    answer = await delivery.client.send_message(message("text"))
    await until(lambda: _parked(world, 1))
    assert not world.receiver.calls
    await enable(delivery, "2")
    await delivery.until_state(answer.delivery_id, SENT)


async def test_deleting_a_channel_kills_what_waits(delivery: Delivery, world: World) -> None:
    channels = delivery.as_("operator")[1]
    await channels.disable_channel(
        channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="1")
    )
    answers = [await delivery.client.send_message(message(str(n), chat=f"chat-{n % 2}")) for n in range(6)]
    await channels.delete_channel(
        channel_pb2.DeleteChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="2")
    )
    await delivery.create_channel()  # the same id is another channel: nothing old goes out by it
    for answer in answers:
        await delivery.until_state(answer.delivery_id, DEAD)
    await until(lambda: len(world.dialog.told) == 6)
    assert not world.receiver.calls
    after = await delivery.client.send_message(message("new"))
    await delivery.until_state(after.delivery_id, SENT)


async def test_an_open_breaker_spares_the_provider_and_costs_no_tries(world: World) -> None:
    settings = {"delivery_breaker_failures": 3, "delivery_breaker_seconds": 3.0, "delivery_timeout_seconds": 5.0}
    async with world.serving(**settings) as delivery:
        await delivery.create_channel()
        world.receiver.fail(503, times=10**6)
        answers = [await delivery.client.send_message(message("text", chat=f"chat-{number}")) for number in range(20)]
        await until(lambda: len(world.receiver.calls) >= 3)
        await asyncio.sleep(0.6)  # in which there would be some 80 calls without a breaker
        calls = len(world.receiver.calls)
        assert calls <= 25
        world.receiver.answer = None
        for answer in answers:
            sent = await delivery.until_state(answer.delivery_id, SENT)
            assert len(sent.parts[0].attempts) <= 4


@pytest.mark.parametrize("redis", ["there", "away"])
async def test_a_breaker_that_one_process_opened_holds_for_all_and_one_finds_out(world: World, redis: str) -> None:
    """DLV-5. The second process has never called; while Redis is away it hears a little later."""
    settings: dict[str, object] = {
        "delivery_breaker_failures": 3,
        "delivery_breaker_seconds": 12.0,  # in which a slow machine starts the second process
        "delivery_channel_poll_seconds": 0.2,
    }
    if redis == "away":
        settings["redis_url"] = "unix:///nowhere/redis.sock"
    async with world.serving(**settings) as first:
        await first.create_channel()
        world.receiver.fail(503, times=10**6)
        stuck = await first.client.send_message(message("stuck"))
        await until(lambda: _gates(world))
        calls = len(world.receiver.calls)
        async with world.serving(**settings) as second:
            others = [await second.client.send_message(message("x", chat=f"chat-{n}")) for n in range(10)]
            await asyncio.sleep(1.0)
            assert len(world.receiver.calls) == calls, "nobody calls while it is open"
            answered = asyncio.Event()

            async def probe(call: Call) -> web.StreamResponse | None:
                await answered.wait()
                return world.receiver.ok()

            world.receiver.answer = probe
            await until(lambda: len(world.receiver.calls) > calls)
            await asyncio.sleep(1.0)
            assert len(world.receiver.calls) == calls + 1, "one call finds out"
            answered.set()
            for answer in (stuck, *others):
                await second.until_state(answer.delivery_id, SENT)
            assert not await _gates(world)


async def _gates(world: World) -> bool:
    """Whether processes share that something is amiss."""
    connection = await asyncpg.connect(world.settings().database_url)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM delivery.gates"))
    finally:
        await connection.close()


async def test_a_429_that_names_no_wait_at_all_is_no_loop(delivery: Delivery, world: World) -> None:
    """DLV-2."""
    world.receiver.fail(429, times=10**6, **{"Retry-After": "0"})
    answer = await delivery.client.send_message(message("text"))
    await delivery.client.send_message(message("other", chat="chat-2"))
    await asyncio.sleep(4.0)
    assert len(world.receiver.calls) <= 6, "after 0, 1 and 3 s, by two conversations"
    world.receiver.answer = None
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert len(sent.parts[0].attempts) == 2
