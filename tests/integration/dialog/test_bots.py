"""DLG-15: bots are made, changed, listed and deleted."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from parley_client.dialog import BotClient, DialogClient
from parley_client.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from tests.integration.dialog.conftest import BOT, CHANNEL, TENANT, World, submission
from tests.support.pages import pages


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
    request = bot_pb2.ListBotsRequest(tenant_id=TENANT, page_size=2)
    seen = [bot.bot_id async for page in pages(dialog.bots.list_bots, request) for bot in page.bots]
    assert seen == ["b0", "b1", "b2", "b3", "b4", BOT]
    other = bot_pb2.ListBotsRequest(tenant_id="other", page_token="nonsense")
    with pytest.raises(InvalidArgument) as raised:
        await dialog.bots.list_bots(other)
    assert raised.value.reason == "INVALID_PAGE_TOKEN"


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
