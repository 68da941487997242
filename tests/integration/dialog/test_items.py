"""A lane carries items of several kinds, and its mode says who answers."""

from uuid import UUID

import pytest

from parley.common.v1 import identity_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from parley_client.errors import FailedPrecondition
from services.dialog.domain.items import ItemKind, Mode
from services.dialog.postgres.queries import LANES
from tests.integration.dialog.conftest import BOT, CHANNEL, TENANT, World, until


async def turn_over(world: World, conversation_id: str, mode: Mode) -> None:
    """Let somebody else answer from the next claim on."""
    async with world.database.acquire() as connection:
        assert await LANES.set_mode(connection, TENANT, UUID(conversation_id), mode)


async def test_an_operator_takes_a_conversation_and_gives_it_back(dialog: World) -> None:
    """BEY-3: what is said to an operator is stored, and the bot answers none of it later."""
    first = await dialog.submit("one")
    await dialog.ends(first.message_id)
    await turn_over(dialog, first.conversation_id, Mode.OPERATOR)
    asked = len(dialog.flow.asked)
    for text in ("two", "three"):
        taken = await dialog.ends((await dialog.submit(text)).message_id)
        assert (taken.outcome, taken.content.text) == (dialog_pb2.TURN_OUTCOME_TAKEN_BY_OPERATOR, text)
        assert (taken.terminal_reason, taken.turn_id, taken.attempts, len(taken.replies)) == ("", "", 0, 0)
    other = await dialog.ends((await dialog.submit("hello", chat="2")).message_id)
    assert other.outcome == dialog_pb2.TURN_OUTCOME_ANSWERED
    await turn_over(dialog, first.conversation_id, Mode.BOT)
    last = await dialog.ends((await dialog.submit("four")).message_id)
    assert last.outcome == dialog_pb2.TURN_OUTCOME_ANSWERED
    assert [turn.messages[0].text for turn in dialog.flow.asked[asked:]] == ["hello", "four"]


async def test_an_operator_has_messages_whatever_becomes_of_the_bot(dialog: World) -> None:
    first = await dialog.submit("one")
    await dialog.ends(first.message_id)
    await turn_over(dialog, first.conversation_id, Mode.OPERATOR)
    await dialog.bots.disable_bot(bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="1"))
    taken = await dialog.ends((await dialog.submit("two")).message_id)
    assert taken.outcome == dialog_pb2.TURN_OUTCOME_TAKEN_BY_OPERATOR


async def test_a_caller_that_waits_hears_that_an_operator_has_the_conversation(dialog: World) -> None:
    request = dialog_pb2.ChatRequest(tenant_id=TENANT, bot_id=BOT, channel_id=CHANNEL, request_id="1")
    request.sender.identity.kind = identity_pb2.IDENTITY_KIND_TELEGRAM
    request.sender.identity.value = "7"
    request.content.text = "hello"
    final = [event async for event in dialog.dialog.chat(request)][-1].final
    message = await dialog.message(final.message_id)
    await turn_over(dialog, message.conversation_id, Mode.OPERATOR)
    request.request_id = "2"
    with pytest.raises(FailedPrecondition) as raised:
        _ = [event async for event in dialog.dialog.chat(request)]
    assert raised.value.reason == "TAKEN_BY_OPERATOR"


async def test_a_conversation_that_is_not_there_has_no_mode(dialog: World) -> None:
    async with dialog.database.acquire() as connection:
        assert not await LANES.set_mode(connection, TENANT, UUID(int=1), Mode.OPERATOR)


@pytest.mark.parametrize("kind", [ItemKind.OPERATOR_REPLY, ItemKind.PROACTIVE_MESSAGE, ItemKind.EVENT, 99])
async def test_an_item_that_this_version_cannot_deal_with_is_a_dead_letter_and_the_lane_goes_on(
    world: World, kind: int
) -> None:
    await world.start(dialog_workers=0)
    await world.prepare()
    strange = await world.submit("strange")
    behind = await world.submit("behind")
    await world.database.execute(
        "UPDATE dialog.messages SET kind = $2 WHERE message_id = $1", UUID(strange.message_id), kind
    )
    await world.start()
    dead = await world.ends(strange.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    name = ItemKind(kind).name if kind in list(ItemKind) else str(kind)
    assert dead.terminal_reason == "UNREADABLE"
    assert dead.last_error == f"UNREADABLE: an item of the kind {name} is not known to this version"
    await world.ends(behind.message_id)
    assert [turn.messages[0].text for turn in world.flow.asked] == ["behind"]


async def test_a_debounce_is_the_due_time_of_the_item_that_begins_it(world: World) -> None:
    """DLG-4: the lane is due when the pause is over, so that nobody claims it only to let it go again."""
    await world.start()
    await world.prepare()
    bot = await world.create_bot("slow")
    bot.debounce.FromMilliseconds(1500)
    update = bot_pb2.UpdateBotRequest(tenant_id=TENANT, bot=bot, request_id="1")
    update.update_mask.paths.append("debounce")
    await world.bots.update_bot(update)
    await world.ends((await world.submit("now it is known", chat="1", bot_id="slow")).message_id)
    fences = "SELECT fence FROM dialog.lanes WHERE lane_id = $1"
    first = await world.submit("one", chat="2", bot_id="slow")
    await world.submit("two", chat="2", bot_id="slow")
    await world.ends(first.message_id)
    assert [message.text for message in world.flow.asked[-1].messages] == ["one", "two"]
    assert await until(lambda: world.database.fetchval(fences, UUID(first.conversation_id))) == 1
