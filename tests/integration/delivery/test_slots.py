"""A part waits for a slot of its provider's rate, also while the limits service is away."""

import asyncio

import pytest
from aiohttp import web

from tests.integration.delivery.conftest import (
    SENT,
    Call,
    Delivery,
    World,
    granted,
    message,
    refused,
    until,
)


async def test_a_future_slot_is_waited_for_without_asking_again(delivery: Delivery, world: World) -> None:
    world.limits.reply = lambda _: granted(0.7)
    answer = await delivery.client.send_message(message("text"))
    stored = await delivery.get(answer.delivery_id)
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert len(world.limits.asked) == 1
    (attempt,) = sent.parts[0].attempts
    assert attempt.started_at.ToMilliseconds() - stored.created_at.ToMilliseconds() >= 690


async def test_a_refused_rate_is_asked_for_again_and_is_no_try(world: World) -> None:
    world.limits.reply = lambda _: refused(0.2) if len(world.limits.asked) < 3 else granted(0)
    async with world.serving(delivery_rate_max_wait_seconds=0.5) as delivery:
        await delivery.create_channel()
        answer = await delivery.client.send_message(message("text"))
        sent = await delivery.until_state(answer.delivery_id, SENT)
    assert len(world.limits.asked) == 3
    assert len({request.request_id for request in world.limits.asked}) == 3
    assert len(sent.parts[0].attempts) == 1


@pytest.mark.parametrize("away", ["refuses connections", "hangs"])
async def test_limits_away_neither_stops_nor_hangs_the_outbox(world: World, away: str) -> None:
    if away == "hangs":
        world.limits.hang = 60.0
    else:
        world.limits_address = "127.0.0.1:9"
    async with world.serving(delivery_rate_alone_per_minute=120.0) as delivery:
        await delivery.create_channel()
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = [await delivery.client.send_message(message("text", chat=f"chat-{number}")) for number in range(5)]
        for answer in answers:
            await delivery.until_state(answer.delivery_id, SENT)
        taken = loop.time() - began
        assert 0.5 <= taken < 30.0, "three at once, then two a second; limits would hang for a minute"
    world.limits.hang = 0.0


async def test_a_refusal_is_no_slot_however_soon_it_says_to_come_back(world: World) -> None:
    """DLV-4."""
    world.limits.reply = lambda _: refused(0.01)
    async with world.serving(delivery_rate_max_wait_seconds=0.5) as delivery:
        await delivery.create_channel()
        answer = await delivery.client.send_message(message("text"))
        await until(lambda: len(world.limits.asked) >= 3)
        assert not world.receiver.calls
        world.limits.reply = lambda _: granted(0)
        await delivery.until_state(answer.delivery_id, SENT)
    assert len(world.receiver.calls) == 1


async def test_without_limits_no_window_holds_more_calls_than_the_pace_allows(world: World) -> None:
    """DLV-4. Many wait, no slot is booked ahead, and so nearly all questions are refused for a short while."""
    world.limits_address = "127.0.0.1:9"
    settings = {"delivery_rate_alone_per_minute": 300.0, "delivery_rate_max_wait_seconds": 0.0}
    async with world.serving(**settings) as delivery:
        await delivery.create_channel()
        loop = asyncio.get_running_loop()
        times: list[float] = []

        async def note(call: Call) -> web.StreamResponse | None:
            times.append(loop.time())
            return world.receiver.ok()

        world.receiver.answer = note
        for number in range(40):
            await delivery.client.send_message(message("text", chat=f"chat-{number}"))
        await until(lambda: len(times) >= 20)
        for first, begin in enumerate(times):
            within = sum(begin <= time <= begin + 2.0 for time in times[first:])
            assert within <= 3 + 2.0 * 5 + 1, "a burst of three, five a second, and one on the edge"
