"""Messages go out once, in order, and dialog hears of it."""

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import pytest
from aiohttp import web

from parley.common.v1 import content_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2

from parley_client.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from services.delivery import wiring
from services.kernel.ids import conversation_id
from services.runtime.lanes import Dispatcher
from tests.integration.delivery.conftest import CHANNEL, SENT, TENANT, TOKEN, Call, Delivery, World, message, until
from tests.support.machine import Pace


async def test_a_message_reaches_the_provider_and_dialog_is_told(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("Здравствуйте!", reply_index=3))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    (call,) = world.receiver.calls
    assert call.token == TOKEN
    assert call.body == {
        "client_id": "chat-1",
        "text": "Здравствуйте!",
        "type": "to_client",
        "external_id": f"{answer.delivery_id}.0.1",
    }
    (part,) = sent.parts
    assert part.provider_message_id == "1001"
    assert [attempt.http_status for attempt in part.attempts] == [200]
    await until(lambda: world.dialog.told)
    (told,) = world.dialog.told
    assert (told.delivery_id, told.message_id, told.reply_index) == (
        answer.delivery_id,
        "00000000-0000-0000-0000-000000000007",
        3,
    )
    assert world.dialog.states(answer.delivery_id) == ["SENT"]
    assert told.at == sent.sent_at
    (asked,) = world.limits.asked
    assert (asked.tenant_id, asked.resource, asked.subject.channel_id) == (TENANT, "provider.chat2desk", CHANNEL)


async def test_what_joins_a_lane_that_is_worked_on_is_sent_without_a_poll(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "Dispatcher", partial(Dispatcher, poll=60.0))
    async with world.serving() as delivery:
        await delivery.create_channel()
        release = asyncio.Event()

        async def answer(call: Call) -> web.StreamResponse | None:
            if call.text == "first":
                await release.wait()
            return world.receiver.ok()

        world.receiver.answer = answer
        await delivery.client.send_message(message("first"))
        await until(world.receiver.texts)
        second = await delivery.client.send_message(message("second"))
        other = await delivery.client.send_message(message("other", chat="chat-2"))
        await delivery.until_state(other.delivery_id, SENT)  # the claim after "second" has found nothing
        release.set()
        await delivery.until_state(second.delivery_id, SENT, seconds=15.0)


async def test_replayed_request_id_returns_the_first_delivery(delivery: Delivery, world: World) -> None:
    request = message("once")
    first = await delivery.client.send_message(request)
    again = await asyncio.gather(*[delivery.client.send_message(request) for _ in range(5)])
    assert {answer.delivery_id for answer in again} == {first.delivery_id}
    assert all(answer.duplicate for answer in again)
    assert not first.duplicate
    await delivery.until_state(first.delivery_id, SENT)
    assert world.receiver.texts() == ["once"]


async def test_concurrent_calls_with_one_request_id_send_once(delivery: Delivery, world: World) -> None:
    request = message("once")
    clients = [delivery.client for _ in range(4)]
    answers = await asyncio.gather(*[client.send_message(request) for client in clients for _ in range(4)])
    assert len({answer.delivery_id for answer in answers}) == 1
    assert sum(not answer.duplicate for answer in answers) == 1
    await delivery.until_state(answers[0].delivery_id, SENT)
    assert world.receiver.texts() == ["once"]


async def test_a_request_id_used_for_another_message_is_refused(delivery: Delivery) -> None:
    request = message("first")
    await delivery.client.send_message(request)
    request.content.text = "second"
    with pytest.raises(AlreadyExists) as raised:
        await delivery.client.send_message(request)
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_replies_of_a_conversation_keep_their_order(delivery: Delivery, world: World) -> None:
    world.receiver.fail(500, times=3)
    client = delivery.client
    for number in range(12):
        await client.send_message(message(f"{number}", chat=f"chat-{number % 3}"))
    await until(lambda: len(world.receiver.calls) >= 15)
    for chat in range(3):
        delivered = list(dict.fromkeys(world.receiver.texts(f"chat-{chat}")))
        assert delivered == [str(number) for number in range(12) if number % 3 == chat]


async def test_a_long_text_goes_out_in_parts(delivery: Delivery, world: World) -> None:
    text = "\n\n".join(f"Абзац {number}. " + "слово " * 300 for number in range(5))
    answer = await delivery.client.send_message(message(text))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert len(sent.parts) > 1
    assert [part.text for part in sent.parts] == world.receiver.texts()
    assert "".join("".join(world.receiver.texts()).split()) == "".join(text.split())
    assert len({part.provider_message_id for part in sent.parts}) == len(sent.parts)
    await until(lambda: world.dialog.told)
    assert world.dialog.states(answer.delivery_id) == ["SENT"]


async def test_a_batch_gives_each_item_its_own_result(delivery: Delivery) -> None:
    request = delivery_pb2.BatchSendMessageRequest()
    good = message("good")
    for item in (
        good,
        message("bad", channel_id="nowhere"),
        message("bad", conversation_id="no uuid"),
        message("bad", message_id="-" * 36),
        good,
    ):
        request.items.add(request=item)
    results = (await delivery.client.batch_send_message(request)).results
    codes = [result.error.code for result in results]
    assert codes == [0, 5, 3, 3, 0]
    assert results[0].response.delivery_id == results[4].response.delivery_id
    assert results[4].response.duplicate


async def test_a_channel_of_another_tenant_is_no_channel(delivery: Delivery) -> None:
    client, _ = delivery.as_("integration", ("globex",))
    with pytest.raises(NotFound) as raised:
        await client.send_message(message("hello", tenant_id="globex"))
    assert raised.value.reason == "CHANNEL_NOT_FOUND"
    with pytest.raises(PermissionDenied):
        await client.send_message(message("hello"))


async def test_another_tenant_sees_no_delivery(delivery: Delivery) -> None:
    answer = await delivery.client.send_message(message("hello"))
    client, _ = delivery.as_("integration", ("globex",))
    with pytest.raises(NotFound):
        await client.get_delivery(delivery_pb2.GetDeliveryRequest(tenant_id="globex", delivery_id=answer.delivery_id))
    listed = await client.list_deliveries(delivery_pb2.ListDeliveriesRequest(tenant_id="globex"))
    assert not listed.deliveries


async def test_conversations_of_two_tenants_never_share_a_lane(delivery: Delivery, world: World) -> None:
    """Even when one names the other's conversation."""
    await delivery.create_channel("globex-channel", "globex")
    held = asyncio.Event()

    async def slow(call: object) -> None:
        await held.wait()

    world.receiver.answer = slow
    await delivery.client.send_message(message("acme"))
    await until(lambda: world.receiver.calls)
    world.receiver.answer = None
    other = await delivery.client.send_message(message("globex", tenant_id="globex", channel_id="globex-channel"))
    await until(lambda: "globex" in world.receiver.texts())
    held.set()
    assert (await delivery.get(other.delivery_id, "globex")).parts


async def test_an_api_channel_takes_no_messages(delivery: Delivery) -> None:
    await delivery.create_channel("acme-api", provider=channel_pb2.PROVIDER_API, api_base="")
    with pytest.raises(FailedPrecondition) as raised:
        await delivery.client.send_message(message("hello", channel_id="acme-api"))
    assert raised.value.reason == "WRONG_STATE"


@pytest.mark.parametrize(
    "wrong", [{"request_id": "a\x00b"}, {"content": content_pb2.OutboundContent(text="a\x00b")}, {"chat_id": ""}]
)
async def test_what_cannot_be_stored_is_named(delivery: Delivery, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await delivery.client.send_message(message("hello", **wrong))
    assert raised.value.fields[0][0].startswith(next(iter(wrong)))


async def test_deliveries_are_listed_newest_first_by_page_and_filter(delivery: Delivery) -> None:
    client = delivery.as_("operator")[0]
    ids = [(await delivery.client.send_message(message(str(number)))).delivery_id for number in range(5)]
    other = message("other", message_id="0198d2a0-0000-7000-8000-000000000001")
    ids.append((await delivery.client.send_message(other)).delivery_id)
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, page_size=4)
    first = await client.list_deliveries(request)
    request.page_token = first.next_page_token
    second = await client.list_deliveries(request)
    assert [each.delivery_id for each in (*first.deliveries, *second.deliveries)] == ids[::-1]
    assert not second.next_page_token
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, message_id=other.message_id)
    assert [each.delivery_id for each in (await client.list_deliveries(request)).deliveries] == ids[-1:]
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, channel_id="none")
    assert not (await client.list_deliveries(request)).deliveries
    await delivery.until_state(ids[-2], SENT)
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, part_state=SENT, message_id=other.message_id)
    await delivery.until_state(ids[-1], SENT)
    assert len((await client.list_deliveries(request)).deliveries) == 1


async def test_a_message_for_a_channel_made_a_moment_ago_by_another_replica_is_sent(world: World) -> None:
    async with world.serving() as first, world.serving(delivery_channel_poll_seconds=60.0) as second:
        await first.create_channel()
        answer = await second.client.send_message(message("at once"))
        await first.until_state(answer.delivery_id, SENT)


async def test_two_replicas_keep_the_order_of_each_conversation_through_failures(world: World) -> None:
    """Every fifth call fails; what the provider took is complete, in order, and not doubled."""
    taken: dict[str, list[str]] = {}

    async def moody(call: Call) -> web.StreamResponse:
        if len(world.receiver.calls) % 5 == 0:
            return web.json_response({"status": "error"}, status=503)
        taken.setdefault(call.chat, []).append(call.text)
        return world.receiver.ok()

    world.receiver.answer = moody
    settings = {"delivery_first_delay_seconds": 0.05, "delivery_concurrency": 4}
    async with world.serving(**settings) as first, world.serving(**settings) as second:
        await first.create_channel()
        clients = [first.client, second.client]

        async def talk(chat: int) -> None:
            for number in range(12):
                await clients[(chat + number) % 2].send_message(message(str(number), chat=f"chat-{chat}"))

        await asyncio.gather(*[talk(chat) for chat in range(10)])
        await until(lambda: sum(map(len, taken.values())) >= 120, seconds=60)
        await until(lambda: len(world.dialog.told) >= 120)
    assert taken == {f"chat-{chat}": [str(number) for number in range(12)] for chat in range(10)}


@pytest.mark.parametrize("crowd", [100, 400])
async def test_a_provider_that_answers_late_delays_no_other_channel(world: World, crowd: int) -> None:
    """DLV-1: its channel fills its share of 16 places; another channel and another tenant find room."""
    go = asyncio.Event()

    async def answer(call: Call) -> web.StreamResponse:
        if call.chat.startswith("late"):
            await go.wait()
        return world.receiver.ok()

    world.receiver.answer = answer
    async with world.serving(delivery_concurrency=16) as delivery:
        await delivery.create_channel()
        await delivery.create_channel("other-channel")
        await delivery.create_channel("other-tenant", "globex")
        late = [delivery.client.send_message(message("late", f"late-{number}")) for number in range(crowd)]
        for start in range(0, crowd, 100):
            await asyncio.gather(*late[start : start + 100])
        pace, took = Pace(), list[float]()
        for number in range(8):
            channel, tenant = (("other-channel", TENANT), ("other-tenant", "globex"))[number % 2]
            started = monotonic()
            text = f"quick {number}"
            conversation = str(conversation_id(channel, text))
            to = message(text, f"q{number}", channel_id=channel, tenant_id=tenant, conversation_id=conversation)
            await delivery.client.send_message(to)
            await until(partial(_heard, world, text))
            took.append(monotonic() - started)
        assert sorted(took)[6] < pace.scaled(1.0), took
        assert sum(call.chat.startswith("late") for call in world.receiver.calls) < 16
        go.set()
        await until(lambda: len(world.receiver.calls) == crowd + 8, 60)


def _heard(world: World, text: str) -> bool:
    return text in world.receiver.texts()
