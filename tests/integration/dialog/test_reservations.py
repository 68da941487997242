"""LIM-2: each time that a message is queued, one hold at most stands for it, whatever becomes of the calls."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from parley.dialog.v1 import dialog_pb2
from parley.limits.v1 import limits_pb2

from parley_client.errors import ResourceExhausted
from services.dialog import peers
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import TurnInput, TurnPlan, TurnTools
from services.kernel.errors import Kind, ParleyError
from tests.integration.dialog.conftest import TENANT, FakeFlow, World, until
from tests.integration.dialog.test_chat import asking, talk
from tests.integration.dialog.test_turns import TERMINAL, unavailable

WINDOW = limits_pb2.LimitStatus(rule_id="rate", limit=300, remaining=2)
WATCHED = limits_pb2.LimitStatus(rule_id="watched", limit=5, remaining=1, daily=True, shadow=True)


async def test_a_reserve_that_timed_out_is_found_again_and_leaks_nothing(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "TIMEOUT", 0.5)
    dialog.flow.model = True
    dialog.limits.late = [1.5, 1.5]
    await dialog.ends((await dialog.submit("one")).message_id)
    assert len(dialog.limits.granted) == dialog.limits.used == len(dialog.limits.committed) == 1


async def test_a_hold_whose_release_got_lost_is_found_by_the_next_attempt(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.allowed = 1
    dialog.flow.script = [unavailable()]
    dialog.limits.fail["Release"] = [ParleyError(Kind.INTERNAL, "INTERNAL", "lost, for a test")]
    await dialog.ends((await dialog.submit("one")).message_id)
    assert dialog.delivery.texts() == ["1: model says one"]
    assert dialog.limits.used == 1


async def _true(value: object) -> object:
    return value


async def test_a_worker_that_lost_its_lane_leaves_the_hold_to_who_has_it_now(
    world: World,
) -> None:
    slow, fast = FakeFlow(), FakeFlow()
    slow.model = fast.model = True
    slow.held, fast.held = asyncio.Event(), asyncio.Event()
    await world.start(flow=slow, dialog_lease_seconds=3.0, dialog_workers=1)  # no place to take the lane again
    await world.prepare()
    response = await world.submit("one")
    await until(lambda: _true(slow.asked))
    await world.start(flow=fast)
    await world.database.execute(
        "UPDATE dialog.lanes SET lease_until = now() - interval '1 second', due_at = now() - interval '1 second'"
    )
    await until(lambda: _true(fast.asked))
    await asyncio.sleep(4.0)  # the first worker notices, and is stopped
    assert world.limits.used == 1
    fast.held.set()
    await world.ends(response.message_id)
    assert world.limits.used == len(world.limits.granted) == len(world.limits.committed) == 1


async def test_a_worker_that_does_not_know_yet_that_its_lane_is_lost_gives_nothing_back(world: World) -> None:
    """LIM-2: the hold is the one that the lane's new owner answers under."""
    slow, fast = FakeFlow(), FakeFlow()
    slow.model = fast.model = True
    slow.held, fast.held = asyncio.Event(), asyncio.Event()
    slow.script = [unavailable()]
    first = await world.start(flow=slow, dialog_workers=1)  # no place to take the lane again
    await world.prepare()
    await world.submit("one")
    await until(lambda: _true(slow.asked))
    await world.start(flow=fast)
    await world.database.execute(
        "UPDATE dialog.lanes SET lease_until = now() - interval '1 second', due_at = now() - interval '1 second'"
    )
    await until(lambda: _true(fast.asked))
    slow.held.set()
    await world.stop(first)  # when what it works on has ended
    assert not slow.script
    assert world.limits.used == 1
    fast.held.set()
    await until(lambda: world.database.fetchval("SELECT count(*) FROM dialog.messages WHERE state = 3"))
    assert world.limits.used == len(world.limits.granted) == len(world.limits.committed) == 1


async def test_a_message_that_is_tried_again_goes_on_with_its_hold(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.allowed = 1
    dialog.flow.script = [unavailable(), unavailable()]
    await dialog.ends((await dialog.submit("one")).message_id)
    assert (len(dialog.limits.granted), len(dialog.limits.committed)) == (1, 1)
    assert not dialog.limits.calls["Release"]


async def _called_then_refused(turn: TurnInput, tools: TurnTools) -> TurnPlan:
    """A decision that fails after a call that was journaled."""

    async def called() -> Mapping[str, Any]:
        return {}

    await tools.journal.call("answer", {}, called)
    raise unavailable()


@pytest.mark.parametrize("journaled", [False, True])
async def test_what_is_given_up_gives_its_hold_back(dialog: World, journaled: bool) -> None:
    """LIM-2: as an effect of the plan that says sorry, so that only who holds the lane does so."""
    dialog.flow.model = True
    dialog.flow.script = [_called_then_refused if journaled else unavailable()] * 2
    dialog.flow.script.append(DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no"))
    await dialog.ends((await dialog.submit("one")).message_id, TERMINAL)
    assert len(dialog.limits.granted) == 1
    assert (dialog.limits.used, len(dialog.limits.committed)) == (0, 0)


async def test_each_of_several_messages_has_its_own_hold(dialog: World) -> None:
    dialog.flow.model = True
    responses = await asyncio.gather(*(dialog.submit(f"m{n}") for n in range(3)))
    for response in responses:
        await dialog.ends(response.message_id)
    assert len(dialog.limits.granted) == len(dialog.limits.committed) == 3


async def test_an_operators_retry_reserves_anew(dialog: World) -> None:
    dialog.flow.model = True
    dialog.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    response = await dialog.submit("one")
    await dialog.ends(response.message_id, TERMINAL)
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=response.message_id, request_id="r")
    await dialog.dialog.retry_message(request)
    await dialog.ends(response.message_id)
    assert len(set(dialog.limits.granted)) == 2
    assert len(dialog.limits.committed) == 1


async def test_lim_1_a_day_begins_in_the_tenants_time_zone(dialog: World) -> None:
    dialog.flow.model = True
    await dialog.database.execute("UPDATE dialog.tenants SET time_zone = 'Asia/Bishkek'")
    await dialog.ends((await dialog.submit("one")).message_id)
    assert dialog.limits.zones == {"Asia/Bishkek"}


async def test_edge_5_remaining_today_is_that_of_the_daily_quota_only(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.more = [WINDOW, WATCHED]
    events = await talk(dialog, asking())
    assert events[-1].final.remaining_today == 29


async def test_edge_5_nothing_is_said_of_today_when_no_rule_counts_days(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog.flow.model = True
    monkeypatch.setattr(dialog.limits, "status", lambda: WINDOW)
    events = await talk(dialog, asking())
    assert not events[-1].final.HasField("remaining_today")


async def test_lim_4_a_refusal_tells_what_is_left_under_the_rule_that_refuses(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.allowed = 0
    dialog.limits.more = [limits_pb2.LimitStatus(rule_id="rate", limit=300, remaining=7)]
    with pytest.raises(ResourceExhausted) as raised:
        await talk(dialog, asking())
    assert raised.value.metadata == {"rule_id": "daily-quota", "remaining": "0"}
