"""DLG-2..4: order, one turn at a time, and what becomes of turns that fail."""

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2

from parley_client.errors import FailedPrecondition
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import (
    Ended,
    OrderDraft,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.postgres.steps import PostgresSteps
from services.kernel.errors import Kind, ParleyError, storage_unavailable
from services.runtime.content import of_text
from tests.integration.dialog.conftest import BOT, TENANT, FakeFlow, World, submission, until
from tests.integration.dialog.peers import AWAY

COMPLETED = dialog_pb2.MESSAGE_STATE_COMPLETED
FAILED = dialog_pb2.MESSAGE_STATE_FAILED
TERMINAL = dialog_pb2.MESSAGE_STATE_TERMINAL
RECEIVED = dialog_pb2.MESSAGE_STATE_RECEIVED


def unavailable(retry_after: float | None = None) -> DecisionError:
    return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "the model is away", retry_after)


async def test_messages_of_a_conversation_are_answered_in_order_by_several_workers(world: World) -> None:
    running: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)

    class Watched(FakeFlow):
        async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
            contact = turn.known.contact_id
            running[contact] += 1
            most[contact] = max(most[contact], running[contact])
            await asyncio.sleep(0)
            try:
                return await super().decide(turn, tools)
            finally:
                running[contact] -= 1

    flow = Watched()
    await world.start(flow=flow)
    await world.start(flow=flow)
    await world.prepare()
    sent: dict[str, list[str]] = defaultdict(list)
    for number in range(10):
        calls = []
        for chat in map(str, range(20)):
            sent[chat].append(f"{number + 1}: m{number}")
            calls.append(world.submit(f"m{number}", chat))
        await asyncio.gather(*calls)
    await until(lambda: _all_sent(world, 200), 60)
    assert {chat: world.delivery.texts(chat) for chat in sent} == sent
    assert set(most.values()) == {1}
    assert world.context.stale_reads == 0
    assert world.delivery.repeated == 0


async def _all_sent(world: World, count: int) -> bool:
    return len(world.delivery.sent) >= count


async def test_a_failed_decision_is_tried_again_and_keeps_its_place(dialog: World) -> None:
    seen = asyncio.Event()

    async def when_the_failure_was_seen(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        await seen.wait()
        return await dialog.flow.echo(turn, tools)

    dialog.flow.script = [unavailable(), when_the_failure_was_seen]
    first = await dialog.submit("one")
    second = await dialog.submit("two")
    failed = await dialog.ends(first.message_id, FAILED)
    assert failed.last_error == "MODEL_UNAVAILABLE: the model is away"
    assert failed.attempts == 1
    seen.set()
    done = await dialog.ends(second.message_id)
    assert done.attempts == 1
    message = await dialog.message(first.message_id)
    assert (message.state, message.attempts) == (COMPLETED, 2)
    assert dialog.delivery.texts() == ["1: one", "2: two"]


async def test_after_three_attempts_the_person_gets_the_error_message(dialog: World) -> None:
    dialog.flow.script = [unavailable(), unavailable(), unavailable()]
    first = await dialog.submit("one")
    second = await dialog.submit("two")
    dead = await dialog.ends(first.message_id, TERMINAL)
    assert (dead.attempts, dead.terminal_reason) == (3, "MODEL_UNAVAILABLE")
    assert dead.outcome == dialog_pb2.TURN_OUTCOME_FAILED
    await dialog.ends(second.message_id)
    assert dialog.delivery.texts() == ["sorry", "1: two"]
    listed = await dialog.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT, states=[TERMINAL]))
    assert [message.message_id for message in listed.messages] == [first.message_id]


async def test_the_models_retry_after_is_honoured(world: World) -> None:
    await world.start()
    await world.prepare(answer_within=Duration(seconds=300))
    world.flow.script = [unavailable(retry_after=200.0)]
    response = await world.submit()
    await world.ends(response.message_id, FAILED)
    waits = await world.database.fetchval("SELECT due_at - now() FROM dialog.lanes")
    assert timedelta(seconds=100) < waits <= timedelta(seconds=200)


async def test_nobody_waits_in_silence_for_as_long_as_a_model_asks_for(dialog: World) -> None:
    dialog.flow.script = [unavailable(retry_after=200.0)]
    await dialog.ends((await dialog.submit()).message_id, TERMINAL)
    assert dialog.delivery.texts() == ["sorry"]


async def test_an_unexpected_failure_of_a_flow_is_terminal_and_says_nothing_inside(dialog: World) -> None:
    dialog.flow.script = [RuntimeError("password is hunter2")]
    response = await dialog.submit()
    dead = await dialog.ends(response.message_id, TERMINAL)
    assert dead.terminal_reason == "INTERNAL"
    assert "hunter2" not in dead.last_error
    assert dialog.delivery.texts() == ["sorry"]


async def test_a_fatal_failure_marks_the_bot_broken_and_an_answer_mends_it(dialog: World) -> None:
    dialog.flow.model = True
    dialog.flow.script = [DecisionError(FailureKind.FATAL, "MODEL_REJECTED", "bad key")]
    response = await dialog.submit()
    await dialog.ends(response.message_id, TERMINAL)
    request = bot_pb2.GetBotRequest(tenant_id=TENANT, bot_id=BOT)
    assert (await dialog.bots.get_bot(request)).bot.broken_reason == "MODEL_REJECTED: bad key"
    await dialog.ends((await dialog.submit("again")).message_id)

    async def mended() -> bool:
        return not (await dialog.bots.get_bot(request)).bot.broken_reason

    await until(mended)


async def test_a_message_without_a_bot_is_a_dead_letter(dialog: World) -> None:
    response = await dialog.submit(bot_id="nobody")
    dead = await dialog.ends(response.message_id, TERMINAL)
    assert dead.terminal_reason == "BOT_NOT_FOUND"
    assert not dialog.delivery.sent


async def test_messages_of_a_disabled_bot_wait_until_it_is_enabled(dialog: World) -> None:
    await dialog.bots.disable_bot(bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="r1"))
    response = await dialog.submit()
    await until(lambda: _parked(dialog))
    assert (await dialog.message(response.message_id)).state == RECEIVED
    assert not dialog.flow.asked
    await dialog.bots.enable_bot(bot_pb2.EnableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="r2"))
    message = await dialog.ends(response.message_id)
    assert message.attempts == 1


async def _parked(world: World) -> bool:
    """Whether the only lane was claimed and let go for later, or until it is woken."""
    columns = "fence, lease_until, due_at > now() OR parked IS NOT NULL AS later"
    row = await world.database.fetchrow(f"SELECT {columns} FROM dialog.lanes")
    return row is not None and row["fence"] > 0 and row["lease_until"] is None and row["later"]


async def test_a_changed_bot_holds_for_the_next_turn_in_every_process(world: World) -> None:
    await world.start()
    await world.start()
    await world.prepare()
    for number in range(6):
        mask = bot_pb2.UpdateBotRequest(
            tenant_id=TENANT,
            bot=bot_pb2.Bot(bot_id=BOT, start_message=f"start {number}"),
            request_id=str(uuid4()),
        )
        mask.update_mask.paths.append("start_message")
        await world.bots.update_bot(mask)
        responses = await asyncio.gather(*(world.submit(chat=f"{number}-{chat}") for chat in range(8)))
        await asyncio.gather(*(world.ends(response.message_id) for response in responses))
        assert {turn.bot.start_message for turn in world.flow.asked[-8:]} == {f"start {number}"}


async def test_rapid_messages_are_answered_as_one_turn_when_the_bot_says_so(world: World) -> None:
    await world.start()
    await world.prepare(debounce=Duration(seconds=60))
    responses = [await world.submit(text) for text in ("one", "two", "three")]
    await until(lambda: _parked(world))
    assert not world.flow.asked
    await world.database.execute(
        "UPDATE dialog.messages SET received_at = received_at - interval '1 minute';"
        " UPDATE dialog.lanes SET due_at = now()"
    )
    messages = [await world.ends(response.message_id) for response in responses]
    assert world.delivery.texts() == ["3: one + two + three"]
    assert len({message.turn_id for message in messages}) == 1
    assert all(message.replies for message in messages)


async def test_dlg_4_a_turn_answers_messages_of_one_bot_only(world: World) -> None:
    await world.start()
    await world.prepare(debounce=Duration(seconds=60))
    await world.create_bot("other", debounce=Duration(seconds=60))
    bots = {"one": BOT, "two": BOT, "three": "other", "four": BOT}
    responses = [await world.submit(text, bot_id=bot) for text, bot in bots.items()]
    await until(lambda: _parked(world))
    await world.database.execute(
        "UPDATE dialog.messages SET received_at = received_at - interval '1 minute';"
        " UPDATE dialog.lanes SET due_at = now()"
    )
    for response in responses:
        await world.ends(response.message_id)
    assert world.delivery.texts() == ["2: one + two", "3: three", "4: four"]
    assert [turn.bot.bot_id for turn in world.flow.asked] == [BOT, "other", BOT]


async def test_dlg_8_a_database_blip_after_a_model_call_does_not_repeat_it(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog.flow.model = True
    end, blips = PostgresSteps.end, [storage_unavailable("Postgres")] * 3

    async def troubled(self: PostgresSteps, *arguments: Any) -> None:
        if blips:
            raise blips.pop()
        await end(self, *arguments)

    monkeypatch.setattr(PostgresSteps, "end", troubled)
    message = await dialog.ends((await dialog.submit("one")).message_id)
    assert dialog.flow.model_calls == message.attempts == 1
    assert not blips


async def test_a_plan_that_cannot_be_stored_gives_its_reservation_back(dialog: World) -> None:
    dialog.flow.model = True
    dialog.flow.script = [
        TurnPlan(replies=[of_text("bad")], orders=[OrderDraft("f", {"text": "nul\0"})], charge_quota=True)
    ]
    await dialog.ends((await dialog.submit("one")).message_id, TERMINAL)
    assert dialog.limits.used == 0


async def test_orders_and_outcomes_are_written_once_with_the_plan(dialog: World) -> None:
    ended = Ended(completed=True, dropoff_step="", message_count=5, duration=timedelta(seconds=40))
    draft = OrderDraft("water-order", {"bottles": 3, "address": "Chuy 1"})
    dialog.flow.script = [TurnPlan(replies=[of_text("done"), of_text("bye")], orders=[draft], ended=ended)]
    response = await dialog.submit()
    message = await dialog.ends(response.message_id)
    assert dialog.delivery.texts() == ["done", "bye"]
    assert [request.reply_index for request in dialog.delivery.sent] == [0, 1]
    (order,) = (await dialog.orders.list_orders(order_pb2.ListOrdersRequest(tenant_id=TENANT))).orders
    assert dict(order.fields) == {"bottles": 3, "address": "Chuy 1"}
    assert (order.message_id, order.contact_id) == (response.message_id, message.contact_id)
    row = await dialog.database.fetchrow("SELECT completed, message_count, duration FROM dialog.dialog_outcomes")
    assert row is not None
    assert tuple(row) == (True, 5, timedelta(seconds=40))


async def test_context_and_limits_away_are_waited_for_without_counting_attempts(dialog: World) -> None:
    dialog.flow.model = True
    dialog.context.fail["GetContext"] = [AWAY] * 2
    dialog.limits.fail["Reserve"] = [AWAY] * 2
    response = await dialog.submit()
    message = await dialog.ends(response.message_id)
    assert message.attempts == 1
    assert message.last_error == ""


async def test_effects_are_repeated_until_they_work_and_the_decision_is_not(dialog: World) -> None:
    dialog.flow.model = True
    dialog.context.fail["SaveContext"] = [AWAY] * 4
    dialog.delivery.fail["SendMessage"] = [AWAY] * 4
    dialog.limits.fail["Commit"] = [AWAY] * 4
    response = await dialog.submit()
    await dialog.ends(response.message_id)
    assert len(dialog.flow.asked) == dialog.flow.model_calls == 1
    assert len(dialog.limits.committed) == 1
    assert len(dialog.delivery.sent) == 1


async def test_a_reply_that_can_never_be_sent_is_dead_and_the_lane_goes_on(dialog: World) -> None:
    gone = ParleyError(Kind.NOT_FOUND, "CHANNEL_NOT_FOUND", "There is no channel 'channel'.")
    dialog.delivery.fail["SendMessage"] = [gone]
    first = await dialog.ends((await dialog.submit("one")).message_id)
    assert first.replies[0].state == dialog_pb2.REPLY_STATE_DEAD
    await dialog.ends((await dialog.submit("two")).message_id)
    assert dialog.delivery.texts() == ["2: two"]


async def test_a_context_that_cannot_be_saved_does_not_stop_the_reply(dialog: World) -> None:
    dialog.context.fail["SaveContext"] = [ParleyError(Kind.INVALID, "TOO_LARGE", "too large")]
    message = await dialog.ends((await dialog.submit("one")).message_id)
    assert "TOO_LARGE" in message.last_error
    assert dialog.delivery.texts() == ["1: one"]


async def test_a_refusing_limit_is_told_and_is_no_failure(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.allowed = 1
    await dialog.ends((await dialog.submit("one")).message_id)
    message = await dialog.ends((await dialog.submit("two")).message_id)
    assert message.outcome == dialog_pb2.TURN_OUTCOME_LIMITED
    assert dialog.delivery.texts() == ["1: model says one", "enough"]
    assert dialog.flow.model_calls == 1


async def test_a_failed_model_turn_gives_its_reservation_back(dialog: World) -> None:
    dialog.flow.model = True
    dialog.flow.script = [unavailable(), DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    await dialog.ends((await dialog.submit()).message_id, TERMINAL)
    assert len(dialog.limits.granted) == 1, "it is the message's, whatever its attempts"
    assert dialog.limits.used == 0
    assert not dialog.limits.committed


async def test_an_operators_retry_is_a_new_turn_that_really_sends(dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    response = await dialog.submit("one")
    dead = await dialog.ends(response.message_id, TERMINAL)
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id="r")
    queued = (await dialog.dialog.retry_message(request)).message
    assert queued.terminal_reason == ""
    again = await dialog.ends(response.message_id)
    assert dialog.delivery.texts() == ["sorry", "1: one"]
    assert again.turn_id != dead.turn_id
    assert again.attempts == 1
    await dialog.dialog.retry_message(request)  # the same request id: nothing more
    other = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id="other")
    with pytest.raises(FailedPrecondition) as raised:
        await dialog.dialog.retry_message(other)
    assert (raised.value.reason, raised.value.metadata["state"]) == ("WRONG_STATE", "COMPLETED")
    assert len(dialog.delivery.sent) == 2


async def test_a_failed_message_can_be_retried_at_once(dialog: World) -> None:
    dialog.flow.script = [unavailable(retry_after=50)]
    response = await dialog.submit("one")
    await dialog.ends(response.message_id, FAILED)
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id="r")
    await dialog.dialog.retry_message(request)
    message = await dialog.ends(response.message_id)
    assert message.attempts == 1


async def test_retrying_keeps_the_order_of_the_lane(dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    dead = await dialog.submit("one")
    await dialog.ends(dead.message_id, TERMINAL)
    dialog.flow.held = asyncio.Event()
    batch = dialog_pb2.BatchSubmitMessageRequest()
    for text in ("two", "three"):
        batch.items.add(request=submission(text))
    await dialog.dialog.batch_submit_message(batch)
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=dead.message_id, request_id="r")
    await dialog.dialog.retry_message(request)
    dialog.flow.held.set()
    await dialog.ends(dead.message_id)
    assert dialog.delivery.texts() == ["sorry", "1: two", "2: three", "3: one"]


async def test_characters_that_no_store_takes_do_no_harm(dialog: World) -> None:
    draft = OrderDraft("f", {"text": "fine"})
    dialog.flow.script = [TurnPlan(replies=[of_text("a\0b"), of_text(""), of_text("c")], orders=[draft])]
    request = submission("hello")
    request.content.button_data = "x\0y"
    message = await dialog.ends((await dialog.dialog.submit_message(request)).message_id)
    assert dialog.flow.asked[0].messages[0].button_data == "xy"
    assert dialog.delivery.texts() == ["ab", "c"]
    assert message.state == COMPLETED


async def test_a_plan_that_cannot_be_stored_fails_alone(dialog: World) -> None:
    bad = TurnPlan(replies=[of_text("bad")], orders=[OrderDraft("f", {"text": "nul\0"})])
    dialog.flow.held = asyncio.Event()

    async def for_bad_only(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        return bad if turn.messages[0].text == "bad" else await dialog.flow.echo(turn, tools)

    dialog.flow.script = [for_bad_only] * 8
    broken = await dialog.submit("bad", "1")
    good = [await dialog.submit("good", str(chat)) for chat in range(2, 5)]
    dialog.flow.held.set()
    for response in good:
        await dialog.ends(response.message_id)
    dead = await dialog.ends(broken.message_id, TERMINAL)
    assert dead.terminal_reason == "INTERNAL"
    assert dialog.delivery.texts("1") == ["sorry"]
