"""The provider changes its mind; nothing is lost, and what is known is written down."""

import asyncio
import re
from itertools import pairwise

import asyncpg
import pytest
from aiohttp import web

from parley.delivery.v1 import channel_pb2, delivery_pb2

from parley_client.errors import FailedPrecondition
from tests.integration.delivery.conftest import (
    CHANNEL,
    DEAD,
    PENDING,
    SENT,
    TENANT,
    TOKEN,
    UNKNOWN,
    Call,
    Delivery,
    World,
    enable,
    message,
    until,
)

RETRYABLE = delivery_pb2.FAILURE_KIND_RETRYABLE
OUTCOME = delivery_pb2.FAILURE_KIND_UNKNOWN_OUTCOME


async def test_a_failed_call_is_tried_again_on_schedule(delivery: Delivery, world: World) -> None:
    world.receiver.fail(500, times=2)
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    attempts = sent.parts[0].attempts
    assert [attempt.http_status for attempt in attempts] == [500, 500, 200]
    assert [attempt.failure for attempt in attempts] == [RETRYABLE, RETRYABLE, 0]
    starts = [attempt.started_at.ToMilliseconds() for attempt in attempts]
    assert starts[1] - starts[0] >= 100
    assert starts[2] - starts[1] >= 200
    assert starts[2] - starts[0] < 30_000
    assert not sent.parts[0].possibly_duplicate


async def test_what_is_kept_of_a_failure_has_no_text_and_no_phone(delivery: Delivery, world: World) -> None:
    world.receiver.fail(500)
    answer = await delivery.client.send_message(message("my secret text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    error = sent.parts[0].attempts[0].error
    assert error.startswith("no, not")
    assert "secret" not in error
    assert not re.search(r"\d{6}", error)


async def test_retry_after_is_honoured_and_a_429_is_no_try(delivery: Delivery, world: World) -> None:
    world.receiver.fail(429, times=2, **{"Retry-After": "1"})
    answer = await delivery.client.send_message(message("text"))
    other = await delivery.client.send_message(message("other", chat="chat-2"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    await delivery.until_state(other.delivery_id, SENT)
    starts = [attempt.started_at.ToMilliseconds() for attempt in sent.parts[0].attempts]
    assert all(later - earlier >= 1000 for earlier, later in pairwise(starts))
    limited = [attempt for attempt in sent.parts[0].attempts if attempt.http_status == 429]
    assert limited
    assert len(world.receiver.calls) <= 5


async def test_a_message_that_can_never_be_sent_is_dead_and_the_lane_goes_on(delivery: Delivery, world: World) -> None:
    world.receiver.fail(400)
    long = "word " * 2000
    first = await delivery.client.send_message(message(long))
    second = await delivery.client.send_message(message("next"))
    dead = await delivery.until_state(first.delivery_id, DEAD)
    await delivery.until_state(second.delivery_id, SENT)
    assert len(dead.parts) == 3
    assert [len(part.attempts) for part in dead.parts] == [1, 0, 0]
    await until(lambda: len(world.dialog.told) == 2)
    assert world.dialog.states(first.delivery_id) == ["DEAD"]
    assert world.dialog.told[0].error
    client = delivery.as_("operator")[0]
    stats = await client.get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT))
    assert (stats.dead, stats.waiting) == (3, 0)
    letters = await client.list_deliveries(delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, part_state=DEAD))
    assert [each.delivery_id for each in letters.deliveries] == [first.delivery_id]


async def test_what_is_over_in_a_lane_that_is_not_settled_yet_does_not_wait(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("text"))
    await delivery.until_state(answer.delivery_id, SENT)
    # As a worker leaves it whose message came between its lease and its look at what waits.
    unsettle = """
        UPDATE delivery.lanes SET done_seq = 0, pending = 1, due_at = now() + interval '1 hour'
        WHERE pending = 0 RETURNING lane_id
    """
    connection = await asyncpg.connect(world.settings().database_url)
    await until(lambda: connection.fetch(unsettle))
    await connection.close()
    client = delivery.as_("operator")[0]
    stats = await client.get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT))
    assert (stats.waiting, stats.retrying, stats.dead) == (0, 0, 0)


async def test_an_operator_sends_a_dead_delivery_again(delivery: Delivery, world: World) -> None:
    world.receiver.fail(400)
    answer = await delivery.client.send_message(message("text"))
    await delivery.until_state(answer.delivery_id, DEAD)
    client = delivery.as_("operator")[0]
    request = delivery_pb2.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=answer.delivery_id, request_id="again")
    again = await client.retry_delivery(request)
    assert [part.state for part in again.delivery.parts] == [PENDING]
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert len(sent.parts[0].attempts) == 2
    assert await client.retry_delivery(request) == again
    assert world.receiver.texts() == ["text", "text"]
    request.request_id = "and again"
    with pytest.raises(FailedPrecondition) as raised:
        await client.retry_delivery(request)
    assert raised.value.reason == "WRONG_STATE"
    await until(lambda: world.dialog.states(answer.delivery_id) == ["DEAD", "SENT"])


async def test_what_is_sent_again_while_its_lane_is_worked_on_is_not_lost(delivery: Delivery, world: World) -> None:
    held = {"before": asyncio.Event(), "after": asyncio.Event()}

    async def answer(call: Call) -> web.StreamResponse | None:
        if call.text in held:
            await held[call.text].wait()
        refused = call.text == "dead" and world.receiver.texts().count("dead") == 1
        return web.json_response({"status": "error"}, status=400) if refused else world.receiver.ok()

    world.receiver.answer = answer
    await delivery.client.send_message(message("before"))
    await until(lambda: world.receiver.texts() == ["before"])
    dead = await delivery.client.send_message(message("dead"))
    after = await delivery.client.send_message(message("after"))
    held["before"].set()  # the other two are leased together
    await until(lambda: world.receiver.texts() == ["before", "dead", "after"])
    request = delivery_pb2.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=dead.delivery_id, request_id="again")
    await delivery.as_("operator")[0].retry_delivery(request)
    held["after"].set()
    await delivery.until_state(after.delivery_id, SENT)
    await delivery.until_state(dead.delivery_id, SENT, seconds=15.0)
    assert world.receiver.texts() == ["before", "dead", "after", "dead"]


async def test_after_all_tries_a_part_is_dead(world: World) -> None:
    settings = {"delivery_tries": 3, "delivery_first_delay_seconds": 0.02}
    async with world.serving(**settings) as delivery:
        await delivery.create_channel()
        world.receiver.fail(503, times=99)
        answer = await delivery.client.send_message(message("text"))
        dead = await delivery.until_state(answer.delivery_id, DEAD)
        assert len(dead.parts[0].attempts) == 3


async def test_a_refused_connection_never_left_and_is_no_duplicate(delivery: Delivery, world: World) -> None:
    operator = delivery.as_("operator")[1]
    channel = channel_pb2.Channel(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        provider=channel_pb2.PROVIDER_CHAT2DESK,
        bot_id="water",
        api_base="http://127.0.0.1:9",
    )
    request = channel_pb2.UpdateChannelRequest(tenant_id=TENANT, channel=channel, request_id="1")
    request.update_mask.paths.append("api_base")
    request.secrets.token = TOKEN
    await operator.update_channel(request)
    answer = await delivery.client.send_message(message("text"))
    await until(lambda: _attempts(delivery, answer.delivery_id))
    request.channel.api_base, request.request_id = world.receiver.base, "2"
    await operator.update_channel(request)
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert sent.parts[0].attempts[0].failure == RETRYABLE
    assert sent.parts[0].attempts[0].http_status == 0
    assert not sent.parts[0].possibly_duplicate


async def _attempts(delivery: Delivery, delivery_id: str) -> bool:
    attempts = (await delivery.get(delivery_id)).parts[0].attempts
    return any(attempt.HasField("ended_at") for attempt in attempts)


async def test_a_connection_closed_after_the_request_is_an_unknown_outcome(delivery: Delivery, world: World) -> None:
    async def close(call: Call) -> None:
        world.receiver.answer = None

    world.receiver.answer = close
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert sent.parts[0].attempts[0].failure == OUTCOME
    assert sent.parts[0].possibly_duplicate
    assert world.receiver.texts() == ["text", "text"]


async def test_a_call_without_an_answer_ends_in_time_and_its_outcome_is_unknown(world: World) -> None:
    hung = asyncio.Event()

    async def hang(call: Call) -> None:
        await hung.wait()

    async with world.serving(delivery_timeout_seconds=2.0, delivery_unknown_policy="hold") as delivery:
        await delivery.create_channel()
        world.receiver.answer = hang
        answer = await delivery.client.send_message(message("text"))
        held = await delivery.until_state(answer.delivery_id, UNKNOWN)
        (attempt,) = held.parts[0].attempts
        assert attempt.failure == OUTCOME
        assert held.parts[0].due_at.ToSeconds() - attempt.started_at.ToSeconds() >= 59
        stats = await delivery.as_("operator")[0].get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT))
        assert stats.unknown == 1
    hung.set()


async def test_a_part_that_fails_for_too_long_no_longer_holds_its_conversation(world: World) -> None:
    settings = {"delivery_patience_seconds": 0.3, "delivery_breaker_failures": 1000}
    async with world.serving(**settings) as delivery:
        await delivery.create_channel()

        async def refuse_first(call: Call) -> web.StreamResponse | None:
            if call.text == "stuck":
                return web.json_response({"status": "error"}, status=500)
            return world.receiver.ok()

        world.receiver.answer = refuse_first
        stuck = await delivery.client.send_message(message("stuck"))
        after = [await delivery.client.send_message(message(str(number))) for number in range(3)]
        for answer in after:
            await delivery.until_state(answer.delivery_id, SENT)
        assert (await delivery.get(stuck.delivery_id)).parts[0].state == PENDING
        world.receiver.answer = None
        sent = await delivery.until_state(stuck.delivery_id, SENT)
        assert len(sent.parts[0].attempts) > 2
        last = await delivery.client.send_message(message("last"))
        await delivery.until_state(last.delivery_id, SENT)


async def test_dialog_away_delays_the_outcome_only(delivery: Delivery, world: World) -> None:
    world.dialog.away = True
    answer = await delivery.client.send_message(message("text"))
    await delivery.until_state(answer.delivery_id, SENT)
    assert not world.dialog.told
    world.dialog.away = False
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT"])


@pytest.mark.parametrize("column", ["sealed_text = '\\xffff'", "parts = '[[99]]'"])
async def test_a_delivery_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_go_on(
    delivery: Delivery, world: World, column: str
) -> None:
    disable = channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="disable")
    await delivery.as_("operator")[1].disable_channel(disable)
    bad = await delivery.client.send_message(message("bad", "chat-1"))
    behind = await delivery.client.send_message(message("behind", "chat-1"))
    other = await delivery.client.send_message(message("other", "chat-2"))
    connection = await asyncpg.connect(world.settings().database_url)
    await connection.execute(f"UPDATE delivery.deliveries SET {column} WHERE delivery_id = $1", bad.delivery_id)
    await enable(delivery)
    for good in (behind, other):
        await delivery.until_state(good.delivery_id, SENT)
    dead = await delivery.until_state(bad.delivery_id, DEAD)
    assert dead.delivery_id == bad.delivery_id
    letters = await connection.fetchval("SELECT count(*) FROM delivery.dead WHERE delivery_id = $1", bad.delivery_id)
    assert letters == 1
    assert {call.text for call in world.receiver.calls} == {"behind", "other"}
    await connection.close()
