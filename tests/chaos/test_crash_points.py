"""RUN-4 and the promises: a process dies between two lines; nothing acknowledged is lost, nothing is done twice.

Every named point in the services is died at, while people write. A round arms one point of each service. The next round
begins when all processes are back; whether everybody of a round was served is looked at meanwhile, as the leases of the
dead take seconds to run out. `PARLEY_CHAOS_SINGLY=1` makes each point a round of its own.
"""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import crowd
from tests.support.mesh import ROOT, Mesh, until
from tests.support.simulator import Simulator

Deaths = tuple[str, ...]

IN_COMPANY = frozenset({"delivery.after_hot_store"})
"""Points that are reached where much is going on, with all services well: people write until it is so."""
_POINT = re.compile(r"""reach\(\s*"([a-z_]+\.[a-z_]+)"\s*\)""")


IN_NO_FLOW = frozenset({"dialog.before_act_commit", "dialog.after_act_commit"})
"""Points of what no bot of the stack does yet; tests/integration/dialog/test_acts.py dies there."""


def points() -> list[str]:
    """Every named point in the services that their bots come to."""
    found = {name for path in (ROOT / "services").rglob("*.py") for name in _POINT.findall(path.read_text())}
    assert found >= IN_NO_FLOW
    return sorted(found - IN_NO_FLOW)


def rounds() -> list[Deaths]:
    """Points that are died at together: one of each service at most."""
    if os.environ.get("PARLEY_CHAOS_SINGLY"):
        return [(point,) for point in points()]
    by_service: dict[str, list[str]] = {}
    for point in points():
        by_service.setdefault(service_of(point), []).append(point)
    return [tuple(filter(None, each)) for each in zip_longest(*by_service.values())]


def service_of(point: str) -> str:
    return point.partition(".")[0]


class Rounds:
    """Runs the wanted rounds one after the other, and checks each while the next ones run."""

    def __init__(self, stack: Mesh, armed: Path, wanted: list[Deaths]) -> None:
        self._stack = stack
        self._armed = armed
        self._simulator = Simulator(stack.simulator, stack.http)
        self._one_at_a_time = asyncio.Lock()
        self._killed: Counter[str] = Counter()
        self.results = {each: asyncio.create_task(self._run(each)) for each in wanted}

    async def _run(self, deaths: Deaths) -> crowd.Beyond:
        async with self._one_at_a_time:
            before = self._killed.copy()
            people = crowd.crowd(self._stack)
            if "dialog.after_put_off" in deaths:
                asker = next(each for each in people if isinstance(each, crowd.Asker))
                await self._simulator.fault("openai", "status", status=500, match={"text": asker.text(0)})
            self._killed.update(map(service_of, deaths))
            restarts = crowd.restarts(self._stack)
            await asyncio.to_thread(self._arm, deaths)
            await crowd.write(people)
            end = time.monotonic() + crowd.PATIENCE
            while IN_COMPANY & set(deaths) and not await asyncio.to_thread(self._all_died, deaths):
                assert time.monotonic() < end, self._left()
                more = crowd.crowd(self._stack, customers=8, askers=0)
                people += more
                await crowd.write(more)
            await until(
                lambda: asyncio.to_thread(self._all_died, deaths), crowd.PATIENCE, f"deaths at {deaths}", self._left
            )
            await crowd.back(self._stack, map(service_of, deaths), restarts)
        beyond = await crowd.check(people)
        self._judge(beyond, self._killed - before)
        return beyond

    def _judge(self, beyond: crowd.Beyond, killed: Counter[str]) -> None:
        """`killed`: who died from the beginning of the round until all of it was well. The outcome of a call is unknown
        only to a caller that died in it."""
        if not killed["delivery"]:
            assert not beyond.replies, f"{beyond.replies} replies were sent again while delivery lived"
            assert not beyond.marked, f"{beyond.marked} replies are marked as possibly sent twice while delivery lived"
        if not killed["dialog"]:
            assert not beyond.questions, f"the model was asked {beyond.questions} times again while dialog lived"

    def _arm(self, deaths: Deaths) -> None:
        for point in deaths:
            (self._armed / point).touch()

    def disarm(self) -> None:
        """What was never reached is not for the next tests."""
        for path in self._armed.iterdir():
            path.unlink()

    def _all_died(self, deaths: Deaths) -> bool:
        return not any((self._armed / point).exists() for point in deaths)

    def _left(self) -> str:
        return f"not reached: {sorted(path.name for path in self._armed.iterdir())}\n{crowd.said(self._stack)}"


@pytest.fixture(scope="module")
async def running(stack: Mesh, armed: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rounds]:
    wanted: list[Deaths] = []
    for item in request.session.items:  # what `-k` and the like have left
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec"):
            deaths: Any = item.callspec.params["deaths"]
            wanted.append(deaths)
    made = Rounds(stack, armed, wanted)
    yield made
    for task in made.results.values():
        task.cancel()
    await asyncio.gather(*made.results.values(), return_exceptions=True)
    await asyncio.to_thread(made.disarm)


@pytest.mark.parametrize("deaths", rounds(), ids="+".join)
async def test_after_deaths_at(running: Rounds, deaths: Deaths) -> None:
    await running.results[deaths]


async def test_what_was_lost_between_a_call_and_its_record_was_done_again(running: Rounds) -> None:
    """One of all rounds, as somebody whose round has ended may reach the point of the next one."""
    beyond = sum(await asyncio.gather(*running.results.values()), crowd.Beyond())
    reached = {point for deaths in running.results for point in deaths}
    assert beyond.replies or "delivery.after_call" not in reached
    assert beyond.marked >= len({"delivery.after_call", "delivery.after_started"} & reached)
    assert beyond.questions or "dialog.after_model_call" not in reached


def test_each_service_on_the_way_of_a_message_has_points() -> None:
    assert {service_of(point) for point in points()} == {"edge", "dialog", "context", "limits", "delivery"}
