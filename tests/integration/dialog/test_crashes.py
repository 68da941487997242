"""A worker dies between two lines: the turn goes on elsewhere, and nothing happens twice."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.flows import (
    Dialog,
    OrderDraft,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.domain.retry import ATTEMPTS
from services.runtime import crashpoints
from services.runtime.content import of_text
from services.runtime.lanes.types import LOST_TOO_OFTEN
from tests.integration.dialog.conftest import FakeFlow, World, until

BEFORE_PLAN = ["after_claim", "before_plan_commit"]
AFTER_PLAN = [
    "after_plan_commit",
    "before_effects",
    "after_save_context",
    "after_send_message",
    "after_effects",
    "before_finish_commit",
    "after_finish_commit",
]
MODEL = ["after_model_reserve", "before_model_call", "after_model_call", "after_journal_commit", "after_model_charge"]


KILLS = LOST_TOO_OFTEN + ATTEMPTS
"""Workers that a message can kill: until it is taken alone, nobody can tell that it is the one."""


class Died(BaseException):
    """Passes every handler, as a power cut does."""


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Points at which the next worker dies; each works once."""
    armed: list[str] = []

    def reach(name: str) -> None:
        if name in armed:
            armed.remove(name)
            raise Died(name)

    monkeypatch.setattr(crashpoints, "reach", reach)
    yield armed
    assert not armed, f"not reached: {armed}"


class Ordering(FakeFlow):
    """Writes an order with each turn, and asks a model when told to."""

    async def echo(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        plan = await super().echo(turn, tools)
        draft = OrderDraft("water-order", {"text": turn.messages[0].text})
        return TurnPlan(
            replies=[*plan.replies, of_text("bye")], dialog=plan.dialog, orders=[draft], charge_quota=plan.charge_quota
        )


async def lease_of_the_dead_runs_out(world: World, deaths: list[str], left: int = 0) -> None:
    """Once a worker has died; its lease is long, so that no living worker loses one on a busy machine."""
    await until(lambda: _true(len(deaths) == left))
    await world.database.execute(
        "UPDATE dialog.lanes SET lease_until = now() - $1::interval, due_at = now() - $1::interval"
        " WHERE lease_until IS NOT NULL",
        timedelta(seconds=1),
    )


async def die_and_go_on(world: World, deaths: list[str], point: str, *, model: bool = False) -> tuple[Ordering, Any]:
    flow = Ordering()
    flow.model = model
    await world.start(flow=flow)
    await world.prepare()
    deaths.append(f"dialog.{point}")
    response = await world.submit("one")
    await lease_of_the_dead_runs_out(world, deaths)
    message = await world.ends(response.message_id)
    later = await world.submit("two")
    await world.ends(later.message_id)
    said = "model says " if model else ""
    assert world.delivery.texts() == [f"1: {said}one", "bye", f"2: {said}two", "bye"]
    assert await world.database.fetchval("SELECT count(*) FROM dialog.orders") == 2
    assert len(world.context.saved) == 2
    assert world.context.stale_reads == 0
    return flow, message


@pytest.mark.parametrize("point", BEFORE_PLAN)
async def test_before_its_plan_is_committed_a_turn_is_decided_again(
    world: World, deaths: list[str], point: str
) -> None:
    flow, message = await die_and_go_on(world, deaths, point)
    assert len(flow.asked) == {"after_claim": 2, "before_plan_commit": 3}[point]
    assert point != "after_claim" or message.attempts == 1, "nobody can tell with which of its lanes a worker was lost"


@pytest.mark.parametrize("point", AFTER_PLAN)
async def test_a_committed_plan_is_carried_out_again_and_never_decided_again(
    world: World, deaths: list[str], point: str
) -> None:
    flow, _ = await die_and_go_on(world, deaths, point)
    assert [turn.messages[0].text for turn in flow.asked] == ["one", "two"]


@pytest.mark.parametrize("point", MODEL)
async def test_a_model_turn_goes_on_after_a_crash(world: World, deaths: list[str], point: str) -> None:
    flow, _ = await die_and_go_on(world, deaths, point, model=True)
    assert len(world.limits.committed) == 2
    calls = {"after_model_call": 3}.get(point, 2)
    assert flow.model_calls == calls
    rows = await world.database.fetch("SELECT state, count(*) FROM dialog.journal GROUP BY state ORDER BY state")
    begun = {"before_model_call": 1, "after_model_call": 1}.get(point, 0)
    assert {row["state"]: row["count"] for row in rows} == ({1: begun} if begun else {}) | {2: 2}


@pytest.mark.parametrize("point", [*MODEL[:-1], "before_plan_commit"])
async def test_lim_2_the_hold_of_a_dead_attempt_does_not_count_against_the_person(
    world: World, deaths: list[str], point: str
) -> None:
    """With one unit left, whoever takes over finds the hold of the one that died."""
    world.flow.model = True
    world.limits.allowed = 1
    await world.start()
    await world.prepare()
    deaths.append(f"dialog.{point}")
    response = await world.submit("one")
    await lease_of_the_dead_runs_out(world, deaths)
    await world.ends(response.message_id)
    assert world.delivery.texts() == ["1: model says one"]
    assert len(world.limits.granted) == len(world.limits.committed) == 1


async def test_a_turn_that_had_called_out_goes_on_with_the_inputs_it_had(world: World, deaths: list[str]) -> None:
    flow = FakeFlow()
    flow.model = True
    await world.start(flow=flow)
    await world.prepare()
    deaths.append("dialog.after_model_call")
    response = await world.submit("one")
    await until(lambda: _true(not deaths))
    conversation = world.context.snapshots[response.conversation_id]
    conversation.dialog.slots.update({"count": 41})
    await lease_of_the_dead_runs_out(world, deaths)
    await world.ends(response.message_id)
    first, again = flow.asked
    bot = replace(first.bot, created_at=None, updated_at=None)  # no decision depends on these
    assert replace(again, bot=bot) == replace(first, bot=bot)
    assert again.bot == bot
    assert world.delivery.texts() == ["1: model says one"]


async def _true(value: object) -> object:
    return value


async def test_a_worker_that_lost_its_lease_changes_nothing(world: World) -> None:
    slow, fast = FakeFlow(), FakeFlow()
    slow.held = asyncio.Event()
    await world.start(flow=slow, dialog_workers=1)  # no place to take the lane again
    await world.prepare()
    response = await world.submit("one")
    await until(lambda: _true(slow.asked))
    slow.script = [
        TurnPlan(replies=[of_text("from the past")], dialog=Dialog(step="past"), orders=[OrderDraft("x", {})])
    ]
    await world.start(flow=fast)
    await world.database.execute(
        "UPDATE dialog.lanes SET lease_until = now() - $1::interval, due_at = now() - $1::interval",
        timedelta(seconds=1),
    )
    message = await world.ends(response.message_id)
    slow.held.set()
    await until(lambda: _true(not slow.script))
    await world.ends((await world.submit("two")).message_id)
    assert [text.partition(": ")[2] for text in world.delivery.texts()] == ["one", "two"]
    assert await world.database.fetchval("SELECT count(*) FROM dialog.orders") == 0
    assert (await world.message(response.message_id)).turn_id == message.turn_id


async def test_a_message_that_kills_its_workers_is_given_up(world: World, deaths: list[str]) -> None:
    await world.start()
    await world.prepare()
    deaths.extend(["dialog.after_claim"] * KILLS)
    response = await world.submit("poison")
    for left in reversed(range(KILLS)):
        await lease_of_the_dead_runs_out(world, deaths, left)
    dead = await world.ends(response.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    assert not world.flow.asked
    assert world.delivery.texts() == ["sorry"]
    assert "lost" in dead.last_error
    await world.ends((await world.submit("fine")).message_id)


async def test_messages_that_kill_their_workers_together_are_given_up_together(world: World, deaths: list[str]) -> None:
    flow = FakeFlow()
    flow.model = True
    await world.start(flow=flow)
    await world.prepare(debounce=Duration(seconds=60))
    deaths.extend(["dialog.after_model_call"] * KILLS)
    responses = [await world.submit(text) for text in ("one", "two")]
    parked = "SELECT count(*) FROM dialog.lanes WHERE lease_until IS NULL AND due_at > now() AND pending = 2"
    await until(lambda: world.database.fetchval(parked))
    await world.database.execute(
        "UPDATE dialog.messages SET received_at = received_at - interval '1 minute';"
        " UPDATE dialog.lanes SET due_at = now()"
    )
    for left in reversed(range(KILLS)):
        await lease_of_the_dead_runs_out(world, deaths, left)
    dead = [await world.ends(response.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL) for response in responses]
    assert len({message.turn_id for message in dead}) == 1
    assert world.delivery.texts() == ["sorry"]
    assert await world.database.fetchval("SELECT count(*) FROM dialog.turns WHERE state = 1") == 0
    assert flow.model_calls == KILLS
    assert world.limits.used == 0, "LIM-2: what the dead have held is given back"


async def test_what_was_leased_beside_a_message_that_kills_its_workers_is_answered(
    world: World, deaths: list[str]
) -> None:
    """DLG-3: only what was taken alone can be blamed for the loss of its worker."""
    waits = asyncio.Event()

    class Slow(FakeFlow):
        async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
            text = turn.messages[0].text
            if text == "poison":
                raise Died("the process")
            begun = sum(asked.messages[0].text == text for asked in self.asked)
            if begun < LOST_TOO_OFTEN:  # still under way when the worker dies
                self.asked.append(turn)
                await waits.wait()
            return await super().decide(turn, tools)

    flow = Slow()
    await world.start(flow=flow)
    await world.prepare()
    good = [await world.submit("good", str(number)) for number in range(8)]
    poison = await world.submit("poison", "poison")

    async def settled() -> bool:
        await world.database.execute(
            "UPDATE dialog.lanes SET lease_until = now() - interval '1 s', due_at = now() - interval '1 s'"
            " WHERE lease_until < now() + interval '19 s'"
        )
        return bool((await world.message(poison.message_id)).state == dialog_pb2.MESSAGE_STATE_TERMINAL)

    await until(settled, 60)
    for response in good:
        assert (await world.ends(response.message_id)).attempts <= 2
    assert world.delivery.texts("poison") == ["sorry"]


async def test_a_stopping_process_finishes_its_turns_and_others_take_the_rest(world: World) -> None:
    first = FakeFlow()
    first.held = asyncio.Event()
    service = await world.start(flow=first)
    await world.prepare()
    response = await world.submit("one")
    await until(lambda: _true(first.asked))
    await world.start()
    stopping = asyncio.get_running_loop().create_task(_stop(service))
    first.held.set()
    message = await world.ends(response.message_id)
    await stopping
    assert message.attempts == 1
    assert world.delivery.texts() == ["1: one"]


async def _stop(service: Any) -> None:
    """Ask the dispatcher of a process to stop, as SIGTERM does."""
    stop = asyncio.Event()
    stop.set()
    await service.app.background[-1](stop)
