"""EDGE-4, DLG-1: messages in, once each."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from parley.dialog.v1 import dialog_pb2

from parley_client.dialog import DialogClient
from parley_client.errors import InvalidArgument, PermissionDenied
from services.dialog.postgres.database import Database
from services.dialog.postgres.handover import Handover
from services.dialog.postgres.inbox import PostgresInbox
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.turns import PostgresTurns
from services.runtime.crypto import Sealer
from tests.integration.dialog.conftest import TENANT, World, submission


async def test_a_message_is_answered_and_its_states_are_told(dialog: World) -> None:
    response = await dialog.submit("hello")
    message = await dialog.ends(response.message_id)
    assert dialog.delivery.texts() == ["1: hello"]
    assert message.attempts == 1
    assert message.replies[0].content.text == "1: hello"
    assert message.replies[0].delivery_id in dialog.delivery.ids.values()
    assert message.received_at.ToDatetime() <= message.generated_at.ToDatetime() <= message.completed_at.ToDatetime()
    assert message.outcome == dialog_pb2.TURN_OUTCOME_ANSWERED
    assert message.contact_id in dialog.context.contacts.values()


async def test_a_repeated_dedupe_key_gives_the_first_message(dialog: World) -> None:
    first = await dialog.submit(dedupe_key="inbox:1")
    again = await dialog.submit("changed", dedupe_key="inbox:1")
    assert (again.message_id, again.duplicate) == (first.message_id, True)
    assert again.conversation_id == first.conversation_id
    other = await dialog.submit(dedupe_key="inbox:1", channel_id="other-channel")
    assert not other.duplicate


async def test_copies_that_come_at_the_same_time_are_stored_once(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.start(dialog_workers=0)
    await world.prepare()
    clients = [DialogClient(world.connection("edge", process=number % 2)) for number in range(4)]
    requests = [submission(chat=str(number % 5), dedupe_key=f"inbox:{number % 20}") for number in range(200)]
    calls = [clients[number % 4].submit_message(request) for number, request in enumerate(requests)]
    responses = await asyncio.gather(*calls)
    assert len({response.message_id for response in responses}) == 20
    assert sum(not response.duplicate for response in responses) == 20
    lanes = await world.database.fetch("SELECT pending, next_seq FROM dialog.lanes")
    assert [(lane["pending"], lane["next_seq"]) for lane in lanes] == [(4, 5)] * 5


async def test_a_batch_has_a_result_for_each_item_in_order(dialog: World) -> None:
    batch = dialog_pb2.BatchSubmitMessageRequest()
    for request in (
        submission("one", dedupe_key="a"),
        submission("bad", dedupe_key="b", chat_id="nul\0"),
        submission("two", dedupe_key="c"),
        submission("one again", dedupe_key="a"),
        submission("foreign", dedupe_key="d", tenant_id="Not A Tenant"),
    ):
        batch.items.add(request=request)
    results = (await dialog.dialog.batch_submit_message(batch)).results
    assert [result.WhichOneof("result") for result in results] == ["response", "error", "response", "response", "error"]
    assert results[3].response.duplicate
    assert results[3].response.message_id == results[0].response.message_id
    await dialog.ends(results[2].response.message_id)
    assert dialog.delivery.texts() == ["1: one", "2: two"]


async def test_a_rejected_message_is_stored_and_never_processed(dialog: World) -> None:
    response = await dialog.submit(rejection=dialog_pb2.REJECTION_REASON_UNSUPPORTED, chat="9")
    later = await dialog.submit("hello", chat="9")
    await dialog.ends(later.message_id)
    message = await dialog.message(response.message_id)
    assert message.state == dialog_pb2.MESSAGE_STATE_TERMINAL
    assert message.rejection == dialog_pb2.REJECTION_REASON_UNSUPPORTED
    assert not message.replies
    assert dialog.delivery.texts("9") == ["1: hello"]


async def test_a_field_that_breaks_its_rule_is_named(dialog: World) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await dialog.submit(dedupe_key="")
    assert [field for field, _ in raised.value.fields] == ["dedupe_key"]


async def test_two_tenants_with_the_same_ids_share_nothing(dialog: World) -> None:
    ours = await dialog.submit(dedupe_key="inbox:1")
    theirs = await dialog.submit(dedupe_key="inbox:1", tenant_id="other")
    assert not theirs.duplicate
    assert theirs.conversation_id != ours.conversation_id
    client = DialogClient(dialog.connection("integration", tenants=("other",)))
    with pytest.raises(PermissionDenied):
        await client.get_message(dialog_pb2.GetMessageRequest(tenant_id=TENANT, message_id=ours.message_id))
    listed = await client.list_messages(dialog_pb2.ListMessagesRequest(tenant_id="other"))
    assert [message.message_id for message in listed.messages] == [theirs.message_id]


async def aged(world: World, age: timedelta) -> None:
    await world.database.execute("UPDATE dialog.dedupe SET received_at = now() - $1::interval", age)


async def test_a_dedupe_key_is_known_for_a_week_whatever_the_clock_of_a_process_says(world: World) -> None:
    first = datetime.now(UTC) + timedelta(days=400)

    class Ahead:
        def now(self) -> datetime:
            return first

    await world.start(dialog_workers=0, clock=Ahead(), dialog_dedupe_sweep_seconds=0.05)
    await world.prepare()
    known = await world.submit(dedupe_key="inbox:1")
    await aged(world, timedelta(days=7) - timedelta(minutes=5))
    await asyncio.sleep(0.5)
    again = await world.submit(dedupe_key="inbox:1")
    assert (again.duplicate, again.message_id) == (True, known.message_id)


def inbox_of(world: World) -> PostgresInbox:
    """Beside that of the process."""
    database, sealing = Database(world.database), Sealing(Sealer(world.processes[0].runtime.keys))
    return PostgresInbox(database, sealing, Handover(PostgresTurns(database, sealing, "test", timedelta(minutes=1))))


async def test_a_dedupe_key_may_come_again_after_a_week(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.prepare()
    await world.submit(dedupe_key="inbox:1")
    inbox = inbox_of(world)
    await aged(world, timedelta(days=7, seconds=1))
    kept = await world.submit(dedupe_key="inbox:2")
    while await inbox.forget_dedupe_ids(limit=1):
        pass
    assert not (await world.submit(dedupe_key="inbox:1")).duplicate
    again = await world.submit(dedupe_key="inbox:2")
    assert (again.duplicate, again.message_id) == (True, kept.message_id)
