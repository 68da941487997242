"""The journal of a turn and the one that tests of flows use: one suite for both."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import (
    Act,
    Budget,
    Journal,
    Known,
    OrderDraft,
    TurnInput,
)
from services.dialog.domain.turns import Claimed, Turn
from services.dialog.postgres.database import Database
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.steps import PostgresSteps
from services.dialog.postgres.turns import PostgresTurns
from services.dialog.usecases.journal import Meter, TurnJournal
from services.dialog.usecases.plans import inbound
from services.kernel.ids import uuid7
from services.runtime.crypto import Sealer
from services.runtime.lanes import FREE_FOR_ALL, Guard, Room
from tests.integration.dialog.conftest import World
from tests.support.talk import MemoryJournal

RESULT = {"text": "да\0", "count": 3, "ratio": 0.5, "list": [1, None, True]}


@pytest.fixture(params=["memory", "postgres"])
async def journal(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
        return
    await world.start(dialog_workers=0)
    await world.prepare()
    await world.submit()
    database, sealing = Database(world.database), Sealing(Sealer(world.processes[0].runtime.keys))
    turns = PostgresTurns(database, sealing, "test", timedelta(minutes=1))
    (claimed,) = (await turns.claim(Room(1, fairness=FREE_FOR_ALL))).items
    assert isinstance(claimed, Claimed) and claimed.bot is not None
    turn_id, now = uuid7(), datetime.now(UTC)
    inputs = TurnInput(str(turn_id), claimed.bot, [inbound(claimed.head)], Known(), now)
    turn = Turn(claimed.lease, turn_id, [claimed.head], inputs, now)

    async def renew(guard: Guard, seconds: float) -> None:
        raise AssertionError("it holds for a minute")

    guard = Guard(claimed.lease, expires=asyncio.get_running_loop().time() + 60, renew=renew)
    yield TurnJournal(PostgresSteps(database, sealing), turn, guard, Meter(Budget(100, 60.0, 1_000, 1_000)))


class Calls:
    """Answers `RESULT`, or fails first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.made = 0

    async def __call__(self) -> Mapping[str, Any]:
        self.made += 1
        if self.failures:
            raise self.failures.pop(0)
        return RESULT


async def test_a_call_is_made_once_and_its_result_is_the_same_each_time(journal: Journal) -> None:
    calls = Calls()
    first = await journal.call("answer", {"question": 1}, calls)
    again = await journal.call("answer", {"question": 1}, calls)
    assert first == again == RESULT
    assert calls.made == 1


async def test_a_result_has_the_values_of_json_from_the_beginning(journal: Journal) -> None:
    async def odd() -> Mapping[str, Any]:
        return {"pair": (1, 2), "at": datetime(2026, 11, 22, tzinfo=UTC)}

    assert await journal.call("odd", {}, odd) == {"pair": [1, 2], "at": "2026-11-22T00:00:00Z"}


async def test_a_call_that_fails_is_made_again(journal: Journal) -> None:
    calls = Calls(DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "away"))
    with pytest.raises(DecisionError):
        await journal.call("answer", {}, calls)
    assert await journal.call("answer", {}, calls) == RESULT
    assert calls.made == 2


async def test_another_request_under_the_same_name_gets_the_first_result(journal: Journal) -> None:
    calls = Calls()
    await journal.call("answer", {"question": 1}, calls)
    assert await journal.call("answer", {"question": 2}, calls) == RESULT
    assert calls.made == 1


async def test_an_act_is_done_once_and_tells_what_it_was_the_first_time(journal: Journal) -> None:
    first = await journal.act("order", Act(RESULT, [OrderDraft("f", {"number": 1})]))
    again = await journal.act("order", Act({"other": True}, [OrderDraft("f", {"number": 2})]))
    assert first == again == RESULT


async def test_steps_of_different_names_are_different_steps(journal: Journal) -> None:
    calls = Calls()
    await journal.call("one", {}, calls)
    await journal.call("two", {}, calls)
    assert calls.made == 2
