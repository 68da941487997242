"""A turn's journal: its steps are remembered, so that a completed one is never repeated."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec

from services.dialog.domain.failures import DecisionError
from services.dialog.domain.flows import Act, Budget, BudgetExceeded
from services.dialog.domain.turns import (
    StepDone,
    StepEnd,
    Turn,
    error_text,
)
from services.dialog.ports import Steps
from services.dialog.usecases.repeat import until_stored
from services.runtime import crashpoints
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

log = get_logger(__name__)

Run = Callable[[], Awaitable[Mapping[str, Any]]]

LEASE_FOR_A_CALL = 5.0
"""Seconds of the lease that must be left when a call begins. It is renewed while the call takes longer; a worker that
loses it all the same may repeat the call, and the journal has both."""


class Meter:
    """Counts what a turn uses of its budget. What earlier attempts have used counts as it comes from the journal."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._ends = asyncio.get_running_loop().time() + budget.seconds
        self._steps = self._tokens = self._price = 0

    def left(self) -> Budget:
        return Budget(
            steps=self._budget.steps - self._steps,
            seconds=self._ends - asyncio.get_running_loop().time(),
            tokens=self._budget.tokens - self._tokens,
            price_micros_usd=self._budget.price_micros_usd - self._price,
        )

    def check(self) -> None:
        """Raise BudgetExceeded when something is used up."""
        for resource, left in asdict(self.left()).items():
            if left <= 0:
                raise self._exceeded(resource)

    def count(self, result: Mapping[str, Any]) -> None:
        """Count a step by what its result says of tokens and money."""
        self._steps += 1
        self._tokens += int(result.get("input_tokens", 0)) + int(result.get("output_tokens", 0))
        self._price += int(result.get("price_micros_usd", 0))

    async def in_time(self, run: Run) -> Mapping[str, Any]:
        """Run a call for as long as the budget lasts."""
        try:
            async with asyncio.timeout_at(self._ends) as limit:
                return await run()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._exceeded("seconds") from error

    def _exceeded(self, resource: str) -> BudgetExceeded:
        return BudgetExceeded(
            resource, f"the turn has used up its budget of {getattr(self._budget, resource):g} {resource}"
        )


class TurnJournal:
    """The journal of one turn, under its lane's lease."""

    def __init__(self, steps: Steps, turn: Turn, guard: Guard, meter: Meter) -> None:
        self._steps = steps
        self._turn = turn
        self._guard = guard
        self._meter = meter

    async def call(self, step: str, request: Mapping[str, Any], run: Run) -> Mapping[str, Any]:
        """The stored result of `step`, or that of running it now. Raises what `run` raises, BudgetExceeded and
        LeaseLost."""
        self._meter.check()
        result = await call_once(self._steps, self._turn, self._guard, step, request, partial(self._meter.in_time, run))
        self._meter.count(result)
        return result

    async def act(self, step: str, act: Act) -> Mapping[str, Any]:
        """The stored result of `step`, or that of writing its rows now. Raises BudgetExceeded and LeaseLost.

        Nothing is noted before the act: its rows and its result are one commit, under the lane's fence.
        """
        self._meter.check()
        request_sha256 = digest(asdict(act))
        done = await until_stored(lambda: self._steps.act(self._turn, step, request_sha256, act))
        self._meter.count(done.result)
        return _result(done, self._turn, step)


async def call_once(
    steps: Steps, turn: Turn, guard: Guard, step: str, request: Mapping[str, Any], run: Run
) -> Mapping[str, Any]:
    """The stored result of a step, or that of running it now. Raises what `run` raises, and LeaseLost.

    What came of a call stays in memory until it is stored: a store that is away for a moment does not make it be paid
    for again.
    """
    await guard.ensure(LEASE_FOR_A_CALL)
    begun = await steps.begin(turn, step, digest(request))
    if isinstance(begun, StepDone):
        return _result(begun, turn, step)
    crashpoints.reach("dialog.before_model_call")
    try:
        result = as_json(await run())  # now what it will be when it comes from the store
    except DecisionError as error:
        failed = StepEnd(None, error_text(error.reason, error))
        await until_stored(lambda: steps.end(turn, step, begun.number, failed))
        raise
    crashpoints.reach("dialog.after_model_call")
    await until_stored(lambda: steps.end(turn, step, begun.number, StepEnd(result)))
    crashpoints.reach("dialog.after_journal_commit")
    return result


def as_json(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result as the journal keeps it: with the values that JSON has."""
    plain: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(result))
    return plain


def _result(done: StepDone, turn: Turn, step: str) -> Mapping[str, Any]:
    if not done.same_request:
        log.warning("a journaled step was asked with another request", turn_id=str(turn.turn_id), step=step)
    return done.result


def digest(request: Mapping[str, Any]) -> bytes:
    """Tells whether a step is asked with the same request."""
    return sha256(json.dumps(request, sort_keys=True, default=str).encode()).digest()
