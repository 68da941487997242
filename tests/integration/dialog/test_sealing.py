"""SEC-4: what people write and are told is sealed at rest, bound to its tenant and row."""

import asyncio
from typing import Any
from uuid import UUID

from parley.dialog.v1 import dialog_pb2

from parley_client.dialog import DialogClient
from services.dialog.domain.flows import (
    OrderDraft,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.postgres.records import unpack_plan
from services.runtime.crypto import is_sealed
from tests.integration.dialog.conftest import TENANT, FakeFlow, World, submission, until
from tests.integration.dialog.test_chat import asking, talk
from tests.support.stored import tables_with

SECRET = "Джалал-Абад 17"


class Died(BaseException):
    """Passes every handler, as a power cut does."""


class Ordering(FakeFlow):
    """Asks a model, and writes an order."""

    async def echo(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        plan = await super().echo(turn, tools)
        draft = OrderDraft("water-order", {"address": turn.messages[0].text})
        return TurnPlan(replies=plan.replies, dialog=plan.dialog, orders=[draft], charge_quota=True)


class Holding(FakeFlow):
    """Waits in the middle of a model call."""

    def __init__(self) -> None:
        super().__init__()
        self.model = True
        self.go_on = asyncio.Event()

    async def ask(self, text: str, tools: TurnTools) -> dict[str, Any]:
        self.model_calls += 1
        await self.go_on.wait()
        return {"text": text}


async def test_only_orders_can_be_read_in_the_database(world: World) -> None:
    flow = Ordering()
    flow.model = True
    await world.start(flow=flow)
    await world.prepare()
    message = await world.ends((await world.submit(SECRET)).message_id)
    assert message.content.text == SECRET
    assert message.replies[0].content.text == f"1: model says {SECRET}"
    assert await world.database.fetchval("SELECT count(*) FROM dialog.journal WHERE state = 2") == 1
    assert await tables_with(SECRET, world.database, "dialog") == {"orders"}


async def test_frozen_inputs_and_dead_letters_are_sealed(world: World) -> None:
    flow = Holding()
    await world.start(flow=flow)
    await world.prepare()
    submitted = await world.submit(SECRET)
    await until(lambda: _true(flow.model_calls))
    assert await world.database.fetchval("SELECT inputs IS NOT NULL FROM dialog.turns")
    assert await tables_with(SECRET, world.database, "dialog") == set()
    flow.go_on.set()
    await world.ends(submitted.message_id)
    flow.script = [RuntimeError(SECRET)] * 9
    dead = await world.ends((await world.submit(SECRET, chat="2")).message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    assert dead.content.text == SECRET
    assert await tables_with(SECRET, world.database, "dialog") == set()


async def chat_ids(world: World) -> list[str]:
    request = dialog_pb2.ListConversationsRequest(tenant_id=TENANT)
    return sorted(found.chat_id for found in (await world.dialog.list_conversations(request)).conversations)


async def test_whose_chat_it_is_is_sealed_and_shown(dialog: World) -> None:
    """A chat's id may be a phone number, or what a company calls its user."""
    person = "person@example.com"
    final = (await talk(dialog, asking(user=person)))[-1]
    assert final.final.reply
    await dialog.ends((await dialog.submit("hello", chat="+996700123456")).message_id)
    assert await tables_with(person, dialog.database, "dialog") == set()
    assert await tables_with("996700123456", dialog.database, "dialog") == set()
    assert await chat_ids(dialog) == ["+996700123456", f"external:{person}"]


async def test_a_chat_id_in_clear_is_shown_and_sealed_with_the_next_message(world: World) -> None:
    before = "chat-of-before"
    await world.start(dialog_workers=0)
    await world.prepare()
    await world.submit("one", chat=before)
    # As the version before wrote it.
    await world.database.execute("UPDATE dialog.conversations SET chat_id = $1, sealed_chat_id = NULL", before)
    assert await chat_ids(world) == [before]
    await world.start(dialog_workers=0)  # has not noted the conversation in the last minute
    await DialogClient(world.connection(process=1)).submit_message(submission("two", before))
    assert await tables_with(before, world.database, "dialog") == set()
    assert await chat_ids(world) == [before]


async def test_a_chat_id_in_the_wrong_place_is_not_shown_and_the_others_are(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.prepare()
    moved = await world.submit("one", chat="moved")
    await world.submit("one", chat="stays")
    await world.database.execute(
        "UPDATE dialog.conversations AS known SET sealed_chat_id = other.sealed_chat_id"
        " FROM dialog.conversations AS other WHERE known.conversation_id = $1 AND other.conversation_id <> $1",
        UUID(moved.conversation_id),
    )
    assert await chat_ids(world) == ["", "stays"]


async def test_a_row_in_the_wrong_place_is_shown_as_unreadable_and_the_others_are_shown(dialog: World) -> None:
    ends = [await dialog.ends((await dialog.submit(text, chat=text)).message_id) for text in ("one", "two", "three")]
    first, second, _ = (UUID(message.message_id) for message in ends)
    stored = await dialog.database.fetchval("SELECT request FROM dialog.messages WHERE message_id = $1", first)
    await dialog.database.execute("UPDATE dialog.messages SET request = $1 WHERE message_id = $2", stored, second)
    listed = await dialog.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT))
    assert [message.content.text for message in listed.messages] == ["three", "", "one"]
    assert [message.last_error.partition(":")[0] for message in listed.messages] == ["", "UNREADABLE", ""]
    await dialog.database.execute("UPDATE dialog.turns SET plan = $1 WHERE message_id = $2", b"\x01moved", first)
    shown = await dialog.message(str(first))
    assert (shown.content.text, shown.last_error.partition(":")[0], len(shown.replies)) == ("one", "UNREADABLE", 0)


async def test_a_message_that_does_not_open_is_a_dead_letter_and_the_others_are_answered(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.prepare()
    submitted = [await world.submit(text, chat=text) for text in ("one", "two", "three")]
    moved = UUID(submitted[1].message_id)
    await world.database.execute("UPDATE dialog.messages SET request = $1 WHERE message_id = $2", b"\x01" * 60, moved)
    await world.start()
    for response in (submitted[0], submitted[2]):
        await world.ends(response.message_id)
    dead = await world.ends(str(moved), dialog_pb2.MESSAGE_STATE_TERMINAL)
    assert (dead.content.text, len(dead.replies)) == ("", 0)
    assert sorted(world.delivery.texts()) == ["1: one", "1: three"]


async def test_rows_that_the_version_before_has_left_in_clear_are_read(dialog: World) -> None:
    submitted = await dialog.ends((await dialog.submit("before")).message_id)
    message_id = UUID(submitted.message_id)
    sealing = dialog.processes[0].app.servicers[0][2]._messages._reads._sealing
    row = await dialog.database.fetchrow(
        "SELECT request, plan, turn_id FROM dialog.messages JOIN dialog.turns USING (message_id)"
    )
    assert row is not None
    request = sealing.open_message(TENANT, message_id, row["request"])
    plan = sealing.open_plan(TENANT, row["turn_id"], row["plan"])
    assert not is_sealed(request)
    assert not is_sealed(plan)
    assert unpack_plan(plan, turn_id=row["turn_id"], first_seq=1, last_seq=1).decided.replies
    await dialog.database.execute("UPDATE dialog.messages SET request = $1", request)
    await dialog.database.execute("UPDATE dialog.turns SET plan = $1", plan)
    assert await dialog.message(submitted.message_id) == submitted


async def test_a_journaled_result_in_clear_is_not_asked_for_again(world: World) -> None:
    async def die_after_the_call(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        await FakeFlow.echo(world.flow, turn, tools)
        # As the version before has noted it.
        await world.database.execute("""UPDATE dialog.journal SET sealed_result = NULL, result = '{"text": "known"}'""")
        raise Died

    await world.start(dialog_lease_seconds=2.0)
    await world.prepare()
    world.flow.model, world.flow.script = True, [die_after_the_call]
    message = await world.ends((await world.submit("hello")).message_id)
    assert message.replies[0].content.text == "1: known"
    assert world.flow.model_calls == 1


async def _true(value: object) -> object:
    return value
