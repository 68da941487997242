"""DLG-12: the model's endpoint goes away and comes back; nobody is left in silence, and no attempt is wasted on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration

from parley_client.errors import Unavailable
from services.dialog.domain import retry
from services.dialog.usecases import late_answers
from services.simulator.settings import SimulatorSettings
from services.simulator.wiring import simulating
from tests.integration.dialog.conftest import World, until
from tests.integration.dialog.test_chat import asking, talk
from tests.integration.dialog.test_crashes import deaths as deaths
from tests.integration.dialog.test_crashes import lease_of_the_dead_runs_out
from tests.integration.dialog.test_turns import COMPLETED, FAILED, TERMINAL
from tests.support.machine import Pace
from tests.support.simulator import Simulator

SORRY = "sorry"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(simulator_port=0, simulator_calls=1000, drain_seconds=0.1)
    async with simulating(settings) as url, aiohttp.ClientSession() as http:
        yield Simulator(url, http)


Start = Callable[..., Awaitable[World]]


@pytest.fixture
def start(world: World, simulator: Simulator) -> Start:
    """Starts so many dialog processes with real flows on the simulator's model, and makes the bot."""

    async def begin(processes: int = 1, **bot: Any) -> World:
        for _ in range(processes):
            endpoint: dict[str, Any] = {"openai_base_url": f"{simulator.url}/openai/v1", "openai_api_key": "key"}
            await world.start(real=True, **endpoint)
        await world.prepare(**bot)
        return world

    return begin


async def goes(simulator: Simulator, kind: str = "status") -> None:
    await simulator.fault("openai", kind, status=503, count=-1)


async def comes_back(simulator: Simulator) -> None:
    await simulator.ask("DELETE", "/faults")


@pytest.mark.parametrize("kind", ["status", "refuse"])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("people", [1, 12])
async def test_an_endpoint_away_for_4_s_costs_nobody_their_answer(
    start: Start, simulator: Simulator, kind: str, processes: int, people: int
) -> None:
    world = await start(processes)
    await world.ends((await world.submit("before", "0")).message_id)
    await goes(simulator, kind)
    responses = []
    for number in range(people):
        responses.append(await world.submit(f"while away {number}", str(number + 1)))
        await asyncio.sleep(4.0 / people)
    await comes_back(simulator)
    for response in responses:
        message = await world.ends(response.message_id, COMPLETED, TERMINAL)
        assert message.state == COMPLETED, message.last_error
    assert SORRY not in world.delivery.texts()
    assert len(world.delivery.sent) == people + 1


async def test_while_the_endpoint_is_away_it_is_left_alone_and_a_message_says_why_it_waits(
    start: Start, simulator: Simulator
) -> None:
    world = await start()
    await goes(simulator)
    began = monotonic()
    responses = [await world.submit("hello", str(number)) for number in range(30)]
    waiting = await world.ends(responses[0].message_id, FAILED)
    assert "MODEL_UNAVAILABLE" in waiting.last_error
    await asyncio.sleep(4.0)
    asked = len(await simulator.calls(provider="openai", limit=1000))
    took = monotonic() - began
    assert asked <= 30 + 2 * took, f"30 messages asked {asked} times within {took:.1f} s"
    help_ = await world.ends((await world.submit("/help", "someone")).message_id)
    assert help_.attempts == 1, "what asks no model does not wait for it"
    await comes_back(simulator)
    for response in responses:
        await world.ends(response.message_id)


async def test_when_the_time_for_an_answer_is_over_the_person_is_told(start: Start, simulator: Simulator) -> None:
    world = await start(answer_within=Duration(seconds=3))
    await goes(simulator)
    pace, began = Pace(), monotonic()
    response = await world.submit("hello")
    dead = await world.ends(response.message_id, TERMINAL, seconds=60)
    assert 2.5 < monotonic() - began < pace.scaled(12)
    assert dead.terminal_reason == "MODEL_UNAVAILABLE"
    assert world.delivery.texts() == [SORRY]
    assert world.limits.used == 0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers late looks again sooner."""
    monkeypatch.setattr(retry, "LATE", 0.5)


@pytest.mark.usefixtures("soon")
async def test_a_bot_that_answers_late_says_sorry_once_and_answers_when_it_can(
    start: Start, simulator: Simulator
) -> None:
    world = await start(answer_within=Duration(seconds=1), answer_late=True)
    await goes(simulator)
    response = await world.submit("hello")
    await until(lambda: _value(world.delivery.texts()))
    await asyncio.sleep(4.0)
    assert world.delivery.texts() == [SORRY]
    assert world.delivery.sent[0].message_id == "", "it is not the reply"
    await comes_back(simulator)
    message = await world.ends(response.message_id)
    assert len(message.replies) == 1
    assert world.delivery.texts() == [SORRY, message.replies[0].content.text]
    assert world.delivery.repeated == 0


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("point", ["before_model_call", "after_model_call", "after_journal_commit"])
async def test_a_death_while_somebody_is_told_of_a_delay_tells_them_once(
    start: Start, simulator: Simulator, deaths: list[str], point: str
) -> None:
    world = await start(answer_within=Duration(seconds=4), answer_late=True)
    await goes(simulator)
    # With others the breaker opens before the time is over: then no model is asked on the way to the apology.
    others = [await world.submit("hello", f"other {number}") for number in range(6)]
    await asyncio.gather(*(world.ends(each.message_id, FAILED) for each in others))
    await asyncio.sleep(2.0)
    response = await world.submit("hello", "1")
    await world.ends(response.message_id, FAILED)
    deaths.append(f"dialog.{point}")
    await lease_of_the_dead_runs_out(world, deaths)
    await until(lambda: _value(len(world.delivery.texts("1")) and len(world.delivery.sent) == 7))
    await comes_back(simulator)
    message = await world.ends(response.message_id)
    assert world.delivery.texts("1") == [SORRY, message.replies[0].content.text]


async def test_edge_5_who_waits_for_the_reply_of_a_call_is_told_that_the_model_failed(
    start: Start, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_answers, "FOR_A_CALLER", 2.0)
    world = await start()
    await goes(simulator)
    with pytest.raises(Unavailable) as raised:
        await talk(world, asking(), timeout=60)
    assert raised.value.reason == "MODEL_UNAVAILABLE"
    assert not world.delivery.sent
    await comes_back(simulator)
    events = await talk(world, asking(), timeout=60)
    assert events[-1].final.reply


async def _value(value: object) -> object:
    return value
