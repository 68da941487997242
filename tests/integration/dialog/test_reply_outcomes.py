"""DLG-1: dialog learns from delivery what became of its replies."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from parley.common.v1 import batch_pb2
from parley.dialog.v1 import dialog_pb2

from parley_client.dialog import DialogClient
from services.dialog.domain.failures import DecisionError, FailureKind
from tests.integration.dialog.conftest import TENANT, World

SENT, DELIVERED, READ, DEAD, QUEUED = (
    dialog_pb2.REPLY_STATE_SENT,
    dialog_pb2.REPLY_STATE_DELIVERED,
    dialog_pb2.REPLY_STATE_READ,
    dialog_pb2.REPLY_STATE_DEAD,
    dialog_pb2.REPLY_STATE_QUEUED,
)


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
