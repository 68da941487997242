"""DLG-15, SEC-2, OPS-1: bots, tenants and keys; what operators read."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.common.v1 import batch_pb2, waiting_pb2
from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2, tenant_pb2

from parley_client.dialog import BotClient, DialogClient, TenantClient
from parley_client.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from services.dialog.domain import DecisionError, FailureKind, OrderDraft, TurnPlan
from tests.integration.dialog.conftest import BOT, CHANNEL, TENANT, World, submission, until

SENT, DELIVERED, READ, DEAD, QUEUED = (
    dialog_pb2.REPLY_STATE_SENT,
    dialog_pb2.REPLY_STATE_DELIVERED,
    dialog_pb2.REPLY_STATE_READ,
    dialog_pb2.REPLY_STATE_DEAD,
    dialog_pb2.REPLY_STATE_QUEUED,
)


def create(bot_id: str = "form", request_id: str = "r1", **fields: Any) -> bot_pb2.CreateBotRequest:
    bot = bot_pb2.Bot(tenant_id=TENANT, bot_id=bot_id, form=bot_pb2.FormFlow(form_id="water-order"), **fields)
    return bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=request_id)


async def test_a_bot_is_created_once_per_request_id(dialog: World) -> None:
    first = await dialog.bots.create_bot(create(owner="Ann"))
    again = await dialog.bots.create_bot(create(owner="Ann"))
    assert again == first
    assert (first.bot.enabled, first.bot.revision, first.bot.locale) == (True, 1, "en")
    with pytest.raises(AlreadyExists) as reused:
        await dialog.bots.create_bot(create(owner="Bob"))
    assert reused.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(AlreadyExists) as taken:
        await dialog.bots.create_bot(create(owner="Bob", request_id="r2"))
    assert taken.value.reason == "ALREADY_EXISTS"


async def test_a_bot_needs_its_tenant_and_a_form_that_exists(dialog: World) -> None:
    request = create()
    request.bot.form.form_id = "no-such-form"
    with pytest.raises(NotFound) as form:
        await dialog.bots.create_bot(request)
    assert form.value.reason == "FORM_NOT_FOUND"
    request.bot.form.definition_yaml = "- not\n- a form"
    with pytest.raises(InvalidArgument) as invalid:
        await dialog.bots.create_bot(request)
    assert invalid.value.reason == "INVALID_FORM"
    request = create()
    request.tenant_id = request.bot.tenant_id = "nobody"
    with pytest.raises(NotFound) as tenant:
        await dialog.bots.create_bot(request)
    assert tenant.value.reason == "TENANT_NOT_FOUND"


async def test_an_update_changes_what_its_mask_names_and_nothing_else(dialog: World) -> None:
    before = (await dialog.bots.create_bot(create(owner="Ann", debounce=Duration(seconds=2)))).bot
    request = bot_pb2.UpdateBotRequest(
        tenant_id=TENANT, bot=bot_pb2.Bot(bot_id="form", display_name="Water", owner="Bob"), request_id="u1"
    )
    request.update_mask.paths.extend(["display_name", "debounce"])
    after = (await dialog.bots.update_bot(request)).bot
    assert (after.display_name, after.owner, after.HasField("debounce")) == ("Water", "Ann", False)
    assert after.revision == before.revision + 1
    assert (await dialog.bots.get_bot(bot_pb2.GetBotRequest(tenant_id=TENANT, bot_id="form"))).bot == after


@pytest.mark.parametrize("path", ["enabled", "revision", "no_such_field", "form.nothing", "bot_id", "*"])
async def test_a_mask_that_cannot_be_followed_is_refused(dialog: World, path: str) -> None:
    request = bot_pb2.UpdateBotRequest(tenant_id=TENANT, bot=bot_pb2.Bot(bot_id=BOT), request_id="u1")
    request.update_mask.paths.append(path)
    with pytest.raises(InvalidArgument) as raised:
        await dialog.bots.update_bot(request)
    assert (raised.value.reason, raised.value.metadata["field"]) == ("INVALID_UPDATE_MASK", path)


async def test_an_update_that_breaks_a_rule_names_the_field(dialog: World) -> None:
    request = bot_pb2.UpdateBotRequest(
        tenant_id=TENANT, bot=bot_pb2.Bot(bot_id=BOT, locale="NOT A LOCALE"), request_id="u1"
    )
    request.update_mask.paths.append("locale")
    with pytest.raises(InvalidArgument) as raised:
        await dialog.bots.update_bot(request)
    assert [field for field, _ in raised.value.fields] == ["locale"]


async def test_a_bot_in_use_cannot_be_deleted(dialog: World) -> None:
    request = bot_pb2.DeleteBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="d1")
    dialog.delivery.channels = [channel_pb2.Channel(tenant_id=TENANT, channel_id=CHANNEL, bot_id=BOT)]
    with pytest.raises(FailedPrecondition) as raised:
        await dialog.bots.delete_bot(request)
    assert raised.value.reason == "IN_USE"
    dialog.delivery.channels = []
    await dialog.bots.delete_bot(request)
    await dialog.bots.delete_bot(request)
    with pytest.raises(NotFound):
        await dialog.bots.get_bot(bot_pb2.GetBotRequest(tenant_id=TENANT, bot_id=BOT))


async def test_a_bot_that_was_deleted_and_made_again_is_the_new_one(dialog: World) -> None:
    await dialog.ends((await dialog.submit()).message_id)
    await dialog.bots.delete_bot(bot_pb2.DeleteBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="d1"))
    await dialog.create_bot(start_message="I am new")
    await dialog.ends((await dialog.submit()).message_id)
    assert dialog.flow.asked[-1].bot.start_message == "I am new"


async def test_lists_go_page_by_page(dialog: World) -> None:
    for number in range(5):
        await dialog.bots.create_bot(create(f"b{number}", f"r{number}"))
    seen, token = [], ""
    while True:
        request = bot_pb2.ListBotsRequest(tenant_id=TENANT, page_size=2, page_token=token)
        page = await dialog.bots.list_bots(request)
        seen += [bot.bot_id for bot in page.bots]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["b0", "b1", "b2", "b3", "b4", BOT]
    other = bot_pb2.ListBotsRequest(tenant_id="other", page_token="nonsense")
    with pytest.raises(InvalidArgument) as raised:
        await dialog.bots.list_bots(other)
    assert raised.value.reason == "INVALID_PAGE_TOKEN"


async def test_messages_and_conversations_are_listed_newest_first(dialog: World) -> None:
    ids = [(await dialog.submit(f"m{number}", chat=str(number % 2))).message_id for number in range(6)]
    await asyncio.gather(*map(dialog.ends, ids))
    seen, token = [], ""
    while True:
        request = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, page_size=4, page_token=token)
        page = await dialog.dialog.list_messages(request)
        seen += [message.message_id for message in page.messages]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids[::-1]
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
    pages = dialog_pb2.ListConversationsRequest(tenant_id=TENANT, page_size=1)
    one = await dialog.dialog.list_conversations(pages)
    pages.page_token = one.next_page_token
    two = await dialog.dialog.list_conversations(pages)
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


async def report(
    world: World, message: dialog_pb2.Message, *states: "dialog_pb2.ReplyState.ValueType", later: int = 0
) -> None:
    """What delivery says of a message's first reply, all in one batch."""
    batch = dialog_pb2.BatchRecordOutcomeRequest()
    for number, state in enumerate(states):
        request = dialog_pb2.RecordOutcomeRequest(
            tenant_id=TENANT,
            message_id=message.message_id,
            delivery_id=message.replies[0].delivery_id,
            state=state,
            error="gone" if state == DEAD else "",
        )
        request.at.FromDatetime(datetime.now(UTC) + timedelta(seconds=later + number))
        batch.items.add(request=request, context=batch_pb2.ItemContext())
    client = DialogClient(world.connection("delivery"))
    results = (await client.batch_record_outcome(batch)).results
    assert all(result.HasField("response") for result in results)


async def test_a_replys_state_goes_on_and_never_back(dialog: World) -> None:
    message = await dialog.ends((await dialog.submit()).message_id)
    assert message.replies[0].state == QUEUED
    await report(dialog, message, SENT, DELIVERED)
    told = await dialog.message(message.message_id)
    assert told.replies[0].state == DELIVERED
    assert told.sent_at == told.replies[0].sent_at
    await report(dialog, message, SENT, DEAD, later=10)
    again = await dialog.message(message.message_id)
    assert (again.replies[0].state, again.sent_at) == (DELIVERED, told.sent_at)
    await report(dialog, message, READ)
    assert (await dialog.message(message.message_id)).replies[0].state == READ


async def test_when_a_reply_was_sent_is_known_though_it_is_heard_after_its_delivery(dialog: World) -> None:
    """DLG-1: a process may die between the two, and what it knew is told by the next."""
    message = await dialog.ends((await dialog.submit()).message_id)
    await report(dialog, message, DELIVERED, later=10)
    await report(dialog, message, SENT)
    told = (await dialog.message(message.message_id)).replies[0]
    assert told.state == DELIVERED
    assert told.sent_at.ToDatetime(UTC) < datetime.now(UTC) + timedelta(seconds=5)


async def test_a_dead_reply_that_is_sent_again_is_sent(dialog: World) -> None:
    message = await dialog.ends((await dialog.submit()).message_id)
    await report(dialog, message, DEAD)
    assert (await dialog.message(message.message_id)).replies[0].state == DEAD
    await report(dialog, message, SENT, later=5)
    assert (await dialog.message(message.message_id)).replies[0].state == SENT


async def test_an_outcome_may_come_before_the_turn_has_ended(dialog: World) -> None:
    dialog.context.hold["SaveContext"] = asyncio.Event()
    response = await dialog.submit()
    while not dialog.delivery.ids:
        await asyncio.sleep(0.01)
    early = dialog_pb2.Message(message_id=response.message_id)
    early.replies.add(delivery_id=next(iter(dialog.delivery.ids.values())))
    await report(dialog, early, SENT)
    dialog.context.hold["SaveContext"].set()
    message = await dialog.ends(response.message_id)
    assert message.replies[0].state == SENT
    assert message.replies[0].delivery_id == early.replies[0].delivery_id


async def test_an_outcome_of_an_earlier_turn_or_of_no_message_changes_nothing(dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    response = await dialog.submit()
    dead = await dialog.ends(response.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    await dialog.dialog.retry_message(
        dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id="r")
    )
    await dialog.ends(response.message_id)
    await report(dialog, dead, READ)
    assert (await dialog.message(response.message_id)).replies[0].state == QUEUED
    proactive = dialog_pb2.Message()
    proactive.replies.add(delivery_id=str(uuid4()))
    await report(dialog, proactive, SENT)


async def test_orders_are_listed_page_by_page_and_by_bot(dialog: World) -> None:
    dialog.flow.script = [TurnPlan(replies=["ok"], orders=[OrderDraft("f", {"n": n}) for n in range(3)])]
    await dialog.ends((await dialog.submit()).message_id)
    request = order_pb2.ListOrdersRequest(tenant_id=TENANT, page_size=2)
    first = await dialog.orders.list_orders(request)
    request.page_token = first.next_page_token
    second = await dialog.orders.list_orders(request)
    orders = [*first.orders, *second.orders]
    assert [dict(order.fields)["n"] for order in orders] == [2, 1, 0]
    by_bot = order_pb2.ListOrdersRequest(tenant_id=TENANT, bot_id="other")
    assert not (await dialog.orders.list_orders(by_bot)).orders


async def test_an_api_key_opens_until_it_is_revoked(dialog: World) -> None:
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id="api", request_id="k1"
    )
    made = await dialog.tenants.create_api_key(request)
    assert made.key.startswith(f"pk_{made.api_key.key_id}_")
    with pytest.raises(AlreadyExists):
        await dialog.tenants.create_api_key(request)
    edge = TenantClient(dialog.connection("edge"))
    verify = tenant_pb2.VerifyApiKeyRequest(key=made.key)
    found = (await edge.verify_api_key(verify)).api_key
    assert (found.tenant_id, found.channel_id, list(found.scopes)) == (TENANT, "api", [1])
    for wrong in (made.key[:-1] + "!", made.key[:-1] + ("a" if made.key[-1] != "a" else "b"), "pk_x", "nonsense"):
        with pytest.raises(Unauthenticated) as refused:
            await edge.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=wrong))
        assert refused.value.reason == "INVALID_API_KEY"
    stored = await dialog.database.fetchval("SELECT string_agg(keys::text, '') FROM dialog.api_keys AS keys")
    assert made.key.split("_", 2)[2] not in stored
    listed = (await dialog.tenants.list_api_keys(tenant_pb2.ListApiKeysRequest(tenant_id=TENANT))).api_keys
    assert [key.key_id for key in listed] == [made.api_key.key_id]
    await dialog.tenants.revoke_api_key(
        tenant_pb2.RevokeApiKeyRequest(tenant_id=TENANT, key_id=made.api_key.key_id, request_id="k2")
    )
    with pytest.raises(Unauthenticated):
        await edge.verify_api_key(verify)


async def test_the_list_tells_what_a_key_is_for_and_whether_it_is_in_use(dialog: World) -> None:
    """SEC-2"""
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id=CHANNEL, request_id="k1", name="website"
    )
    made = await dialog.tenants.create_api_key(request)

    async def listed() -> tenant_pb2.ApiKey:
        (key,) = (await dialog.tenants.list_api_keys(tenant_pb2.ListApiKeysRequest(tenant_id=TENANT))).api_keys
        return key

    assert ((await listed()).name, (await listed()).HasField("last_used_at")) == ("website", False)
    edge = TenantClient(dialog.connection("edge"))
    verify = tenant_pb2.VerifyApiKeyRequest(key=made.key)
    await edge.verify_api_key(verify)
    used = await listed()
    assert used.HasField("last_used_at")
    await edge.verify_api_key(verify)
    assert (await listed()).last_used_at == used.last_used_at, "a use within the hour is no news"


async def test_an_expired_api_key_is_refused(dialog: World) -> None:
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id="api", request_id="k1"
    )
    request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    made = await dialog.tenants.create_api_key(request)
    await dialog.database.execute("UPDATE dialog.api_keys SET expires_at = now() - interval '1 second'")
    edge = TenantClient(dialog.connection("edge"))
    with pytest.raises(Unauthenticated):
        await edge.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=made.key))


async def test_a_tenant_is_made_by_those_who_may_act_for_all(dialog: World) -> None:
    request = tenant_pb2.CreateTenantRequest(
        tenant=tenant_pb2.Tenant(tenant_id="new", time_zone="Asia/Bishkek", default_region="KG"), request_id="t1"
    )
    with pytest.raises(PermissionDenied):
        await TenantClient(dialog.connection("operator", tenants=("new",))).create_tenant(request)
    made = (await dialog.tenants.create_tenant(request)).tenant
    assert (await dialog.tenants.get_tenant(tenant_pb2.GetTenantRequest(tenant_id="new"))).tenant == made
    request.tenant.time_zone, request.request_id = "Mars/Olympus", "t2"
    with pytest.raises(InvalidArgument) as raised:
        await dialog.tenants.create_tenant(request)
    assert raised.value.metadata["field"] == "tenant.time_zone"


async def test_one_tenants_bots_are_not_anothers(dialog: World) -> None:
    client = BotClient(dialog.connection("integration", tenants=("other",)))
    with pytest.raises(PermissionDenied):
        await client.get_bot(bot_pb2.GetBotRequest(tenant_id=TENANT, bot_id=BOT))
    with pytest.raises(NotFound):
        await client.get_bot(bot_pb2.GetBotRequest(tenant_id="other", bot_id=BOT))
    ours = await dialog.dialog.submit_message(submission())
    other = DialogClient(dialog.connection("integration", tenants=("other",)))
    with pytest.raises(NotFound):
        await other.get_message(dialog_pb2.GetMessageRequest(tenant_id="other", message_id=ours.message_id))
