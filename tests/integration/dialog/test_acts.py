"""Steps that write: their rows and their results are one commit, once, whatever crashes."""

import asyncio
import json
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import (
    Act,
    BudgetExceeded,
    OrderDraft,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.postgres.steps import PostgresSteps
from services.kernel.ids import conversation_id
from services.runtime.content import of_text
from services.runtime.lanes import LeaseLost
from tests.integration.dialog.conftest import CHANNEL, TENANT, FakeFlow, World, until
from tests.integration.dialog.test_crashes import deaths as deaths
from tests.integration.dialog.test_crashes import lease_of_the_dead_runs_out

AWAY = DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "the model is away")


def order(number: int) -> Act:
    return Act({"ordered": number}, [OrderDraft("water-order", {"number": number})])


class Acting(FakeFlow):
    """Orders first, then asks a model what to say about it; on its last attempt it says it in its own words."""

    def __init__(self) -> None:
        super().__init__()
        self.model = True
        self.away: list[DecisionError] = []
        self.told_last: list[bool] = []

    async def echo(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        done = await tools.journal.act("order", order(1))
        try:
            said = await tools.journal.call("answer", {"text": "ordered"}, partial(self.answer, tools))
        except DecisionError as error:
            self.told_last.append(tools.is_last(error))
            if not tools.is_last(error):
                raise
            return TurnPlan(replies=[of_text(f"order {done['ordered']} is taken")], orders=order(2).orders)
        return TurnPlan(
            replies=[of_text(f"{done['ordered']}: {said['text']}")], orders=order(2).orders, charge_quota=True
        )

    async def answer(self, tools: TurnTools) -> Any:
        if self.away:
            raise self.away.pop(0)
        return await self.ask("ordered", tools)


async def acting(world: World, **settings: Any) -> Acting:
    flow = Acting()
    await world.start(flow=flow, **settings)
    await world.prepare()
    return flow


async def orders(world: World) -> list[int]:
    rows = await world.database.fetch("SELECT fields FROM dialog.orders ORDER BY created_at, order_id")
    return [json.loads(row["fields"])["number"] for row in rows]


@pytest.mark.parametrize(
    "point",
    [
        "before_act_commit",
        "after_act_commit",
        "before_model_call",
        "after_model_call",
        "before_plan_commit",
        "after_plan_commit",
        "after_finish_commit",
    ],
)
async def test_a_turn_that_dies_neither_asks_nor_acts_twice(world: World, deaths: list[str], point: str) -> None:
    flow = await acting(world)
    deaths.append(f"dialog.{point}")
    response = await world.submit()
    await lease_of_the_dead_runs_out(world, deaths)
    await world.ends(response.message_id)
    assert await orders(world) == [1, 2]
    assert flow.model_calls == (2 if point == "after_model_call" else 1), "only what was under way is asked again"
    steps = await world.database.fetch("SELECT step, count(*) FROM dialog.journal WHERE state = 2 GROUP BY step")
    assert {row["step"]: row["count"] for row in steps} == {"order": 1, "answer": 1}
    assert world.delivery.texts() == ["1: model says ordered"]


async def test_when_the_answer_fails_for_good_the_reply_is_rendered_from_what_was_done(world: World) -> None:
    flow = await acting(world)
    flow.away = [AWAY, AWAY, AWAY]
    message = await world.ends((await world.submit()).message_id)
    assert flow.told_last == [False, False, True]
    assert message.attempts == 3
    assert world.delivery.texts() == ["order 1 is taken"]
    assert await orders(world) == [1, 2]
    assert world.limits.used == 0, "nothing is charged, and what was held is given back"


async def test_a_failure_that_is_never_tried_again_is_the_last(world: World) -> None:
    flow = await acting(world)
    flow.away = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    await world.ends((await world.submit()).message_id)
    assert flow.told_last == [True]


async def test_acts_of_many_turns_are_one_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[int]()
    true = PostgresSteps._act

    async def counting(self: Any, batch: Any) -> Any:
        sizes.append(len(batch))
        return await true(self, batch)

    monkeypatch.setattr(PostgresSteps, "_act", counting)
    flow = await acting(world, dialog_workers=40)
    flow.held = asyncio.Event()
    responses = await asyncio.gather(*(world.submit(chat=str(chat)) for chat in range(20)))
    await until(lambda: _true(len(flow.asked) >= 10))
    flow.held.set()
    for response in responses:
        await world.ends(response.message_id)
    assert sum(sizes) == 20
    assert max(sizes) > 1
    assert sorted(await orders(world)) == [1] * 20 + [2] * 20


async def test_acts_side_by_side_in_one_turn_are_all_written(world: World) -> None:
    async def both(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        done = await asyncio.gather(*(tools.journal.act(f"order {number}", order(number)) for number in (3, 4, 5)))
        return TurnPlan(replies=[of_text(" ".join(str(each["ordered"]) for each in done))], orders=order(6).orders)

    await world.start()
    await world.prepare()
    world.flow.script = [both]
    await world.ends((await world.submit()).message_id)
    assert world.delivery.texts() == ["3 4 5"]
    assert sorted(await orders(world)) == [3, 4, 5, 6]


async def test_who_has_lost_the_lane_writes_nothing(world: World) -> None:
    failed = list[BaseException]()

    async def late(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        await world.database.execute("UPDATE dialog.lanes SET fence = fence + 1")
        try:
            await tools.journal.act("order", order(1))
        except LeaseLost as error:
            failed.append(error)
            raise
        raise AssertionError("written")

    await world.start()
    await world.prepare()
    world.flow.script = [late]
    await world.submit()
    await until(lambda: _true(failed))
    assert await orders(world) == []
    assert await world.database.fetchval("SELECT count(*) FROM dialog.journal") == 0
    assert await world.database.fetchval("SELECT count(*) FROM dialog.turns") == 0


async def test_an_operators_retry_of_a_turn_that_has_acted_goes_on_with_it(world: World) -> None:
    """A retry is a new turn, so that it really sends; but what was written would be written twice."""
    flow = await acting(world)
    flow.away = [DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "away", retry_after=50.0)]
    response = await world.submit()
    await world.ends(response.message_id, dialog_pb2.MESSAGE_STATE_FAILED)
    await world.dialog.retry_message(
        dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id=str(uuid4()))
    )
    await world.ends(response.message_id)
    assert await orders(world) == [1, 2]


async def test_what_is_answered_before_anything_is_reserved_asks_limits_for_nothing(world: World) -> None:
    """A command, a form, a known answer: even with a journaled step of its own, and with no quota left."""

    class Ready(FakeFlow):
        async def prepare(self, turn: TurnInput, tools: TurnTools) -> TurnPlan | None:
            done = await tools.journal.act("order", order(1))
            return TurnPlan(replies=[of_text(f"order {done['ordered']}")])

    world.limits.allowed = 0
    await world.start(flow=Ready())
    await world.prepare()
    await world.ends((await world.submit()).message_id)
    assert world.delivery.texts() == ["order 1"]
    assert world.limits.calls["Reserve"] == 0


@pytest.mark.parametrize(
    ("setting", "resource"),
    [
        ({"dialog_turn_steps": 2}, "steps"),
        ({"dialog_turn_tokens": 10}, "tokens"),
        ({"dialog_turn_usd": 0.001}, "price_micros_usd"),
    ],
)
async def test_a_turn_that_has_used_up_its_budget_is_told_so_and_given_up(
    world: World, setting: dict[str, Any], resource: str
) -> None:
    exceeded = list[BudgetExceeded]()

    async def costly() -> dict[str, int]:
        return {"input_tokens": 4, "output_tokens": 1, "price_micros_usd": 500}

    async def endless(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        for number in range(9):
            try:
                await tools.journal.call(f"step {number}", {}, costly)
            except BudgetExceeded as error:
                exceeded.append(error)
                raise
        raise AssertionError("nine steps")

    await world.start(**setting)
    await world.prepare()
    world.flow.script = [endless]
    message = await world.ends((await world.submit()).message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    assert message.terminal_reason == "BUDGET_EXCEEDED"
    assert [error.resource for error in exceeded] == [resource]
    assert await world.database.fetchval("SELECT count(*) FROM dialog.journal WHERE state = 2") == 2
    assert world.delivery.texts() == ["sorry"]


async def test_steps_of_earlier_attempts_count(world: World) -> None:
    async def three(fail: bool, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        for number in range(3):
            await tools.journal.act(f"order {number}", order(number))
        if fail:
            raise AWAY
        left = tools.left()
        return TurnPlan(replies=[of_text(f"{left.steps} steps left")])

    await world.start(dialog_turn_steps=5)
    await world.prepare()
    world.flow.script = [partial(three, True), partial(three, False)]
    await world.ends((await world.submit()).message_id)
    assert world.delivery.texts() == ["2 steps left"]
    assert await orders(world) == [0, 1, 2]


async def test_a_step_that_takes_all_the_time_leaves_some_to_say_so(world: World) -> None:
    async def slow(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        done = await tools.journal.act("order", order(1))
        try:
            await tools.journal.call("answer", {}, _forever)
        except BudgetExceeded as error:
            return TurnPlan(replies=[of_text(f"order {done['ordered']}, {error.resource} over")])
        raise AssertionError("answered")

    await world.start(dialog_decision_seconds=2.0)
    await world.prepare()
    world.flow.script = [slow]
    await world.ends((await world.submit()).message_id)
    assert world.delivery.texts() == ["order 1, seconds over"]


async def test_a_flow_knows_the_tenants_zone_and_the_contacts_preferences(world: World) -> None:
    await world.start()
    await world.prepare()
    await world.database.execute("UPDATE dialog.tenants SET time_zone = 'Asia/Bishkek'")
    conversation = conversation_id(f"{TENANT}/{CHANNEL}", "1")
    world.context.snapshots[str(conversation)].preferences.values["favorite_staff"] = "Anna"
    await world.ends((await world.submit("one")).message_id)
    (turn,) = world.flow.asked
    assert turn.time_zone == "Asia/Bishkek"
    assert turn.known.preferences == {"favorite_staff": "Anna"}


async def _forever() -> dict[str, Any]:
    await asyncio.sleep(3600)
    return {}


async def _true(value: object) -> object:
    return value
