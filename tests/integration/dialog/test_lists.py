"""DLG-1, OPS-1: messages, conversations, orders and the queue, as operators read them."""

import asyncio
from datetime import UTC, datetime, timedelta

from parley.common.v1 import waiting_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import OrderDraft, TurnPlan
from services.runtime.content import of_text
from tests.integration.dialog.conftest import BOT, TENANT, World, until
from tests.support.pages import pages


async def test_messages_and_conversations_are_listed_newest_first(dialog: World) -> None:
    ids = [(await dialog.submit(f"m{number}", chat=str(number % 2))).message_id for number in range(6)]
    await asyncio.gather(*map(dialog.ends, ids))
    request = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, page_size=4)
    listing = pages(dialog.dialog.list_messages, request)
    assert [message.message_id async for page in listing for message in page.messages] == ids[::-1]
    first = await dialog.message(ids[0])
    request = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, conversation_id=first.conversation_id)
    listed = (await dialog.dialog.list_messages(request)).messages
    assert [message.message_id for message in listed] == ids[4::-2]
    assert {message.conversation_id for message in listed} == {first.conversation_id}
    conversations = (
        await dialog.dialog.list_conversations(dialog_pb2.ListConversationsRequest(tenant_id=TENANT))
    ).conversations
    assert {each.chat_id: each.message_count for each in conversations} == {"0": 3, "1": 3}
    assert {each.contact_id for each in conversations} == set(dialog.context.contacts.values())
    single = dialog_pb2.ListConversationsRequest(tenant_id=TENANT, page_size=1)
    one = await dialog.dialog.list_conversations(single)
    single.page_token = one.next_page_token
    two = await dialog.dialog.list_conversations(single)
    assert {one.conversations[0].chat_id, two.conversations[0].chat_id} == {"0", "1"}
    assert not two.next_page_token


async def test_the_queue_tells_what_waits_has_failed_and_is_dead(dialog: World) -> None:
    dialog.flow.script = [
        DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no"),
        DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "later", 50),
    ]
    await dialog.ends((await dialog.submit(chat="1")).message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    await dialog.submit(rejection=dialog_pb2.REJECTION_REASON_UNSUPPORTED)
    failed = await dialog.submit(chat="2")
    await dialog.ends(failed.message_id, dialog_pb2.MESSAGE_STATE_FAILED)
    await dialog.submit(chat="2")
    for tenant_id in (TENANT, ""):
        stats = await dialog.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id=tenant_id))
        assert (stats.waiting, stats.failed, stats.dead, stats.leased_lanes) == (1, 1, 1, 0)
        assert stats.oldest_waiting.ToTimedelta() > timedelta(0)
    nobody = await dialog.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id="nobody"))
    assert nobody == dialog_pb2.GetQueueStatsResponse()
    states = [dialog_pb2.MESSAGE_STATE_FAILED, dialog_pb2.MESSAGE_STATE_RECEIVED]
    open_ones = await dialog.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT, states=states))
    assert [message.state for message in open_ones.messages] == states[::-1]
    dead = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, states=[dialog_pb2.MESSAGE_STATE_TERMINAL])
    assert len((await dialog.dialog.list_messages(dead)).messages) == 2


async def test_a_message_that_waits_says_for_what(dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.RETRYABLE, "MODEL_TIMEOUT", "the model is slow", 40)]
    failed = await dialog.submit()
    await dialog.ends(failed.message_id, dialog_pb2.MESSAGE_STATE_FAILED)
    waiting = (await dialog.message(failed.message_id)).waiting
    assert waiting.reason == waiting_pb2.WAIT_REASON_RETRY
    assert "the model is slow" in waiting.detail
    assert waiting.until.ToDatetime(UTC) > datetime.now(UTC) + timedelta(seconds=20)
    behind = (await dialog.message((await dialog.submit()).message_id)).waiting
    assert (behind.reason, behind.ahead) == (waiting_pb2.WAIT_REASON_BEHIND, 1)


async def test_messages_of_a_disabled_bot_are_listed_counted_and_say_why_they_wait(dialog: World) -> None:
    switch = {"tenant_id": TENANT, "bot_id": BOT}
    await dialog.bots.disable_bot(bot_pb2.DisableBotRequest(**switch, request_id="off"))
    first, second = await dialog.submit(), await dialog.submit()

    async def parked() -> bool:
        return (await dialog.message(first.message_id)).waiting.reason == waiting_pb2.WAIT_REASON_BOT_DISABLED

    await until(parked)
    waiting = (await dialog.message(second.message_id)).waiting
    assert (waiting.reason, waiting.ahead) == (waiting_pb2.WAIT_REASON_BOT_DISABLED, 1)
    received = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, states=[dialog_pb2.MESSAGE_STATE_RECEIVED])
    listed = (await dialog.dialog.list_messages(received)).messages
    assert [message.message_id for message in listed] == [second.message_id, first.message_id]
    stats = await dialog.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id=TENANT))
    assert (stats.parked, stats.waiting) == (2, 2)
    await dialog.bots.enable_bot(bot_pb2.EnableBotRequest(**switch, request_id="on"))
    assert not (await dialog.ends(second.message_id)).HasField("waiting")


async def test_a_message_in_work_and_an_answered_one_say_so(dialog: World) -> None:
    dialog.flow.held = asyncio.Event()
    submitted = await dialog.submit()
    await dialog.ends(submitted.message_id, dialog_pb2.MESSAGE_STATE_PROCESSING)
    working = await dialog.message(submitted.message_id)
    assert working.waiting.reason == waiting_pb2.WAIT_REASON_IN_PROGRESS
    dialog.flow.held.set()
    assert not (await dialog.ends(submitted.message_id)).HasField("waiting")


async def test_orders_are_listed_page_by_page_and_by_bot(dialog: World) -> None:
    dialog.flow.script = [TurnPlan(replies=[of_text("ok")], orders=[OrderDraft("f", {"n": n}) for n in range(3)])]
    await dialog.ends((await dialog.submit()).message_id)
    request = order_pb2.ListOrdersRequest(tenant_id=TENANT, page_size=2)
    first = await dialog.orders.list_orders(request)
    request.page_token = first.next_page_token
    second = await dialog.orders.list_orders(request)
    orders = [*first.orders, *second.orders]
    assert [dict(order.fields)["n"] for order in orders] == [2, 1, 0]
    by_bot = order_pb2.ListOrdersRequest(tenant_id=TENANT, bot_id="other")
    assert not (await dialog.orders.list_orders(by_bot)).orders
