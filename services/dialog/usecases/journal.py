"""A turn's journal: external calls that are remembered, so that a completed one is never repeated."""

import json
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any

from services.dialog.domain import DecisionError
from services.dialog.turns import Claimed, StepBegun, StepDone, error_text
from services.dialog.usecases.patience import until_stored
from services.dialog.usecases.ports import FrozenTurn, StepEnd, Turns
from services.runtime import crashpoints
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

log = get_logger(__name__)

LEASE_FOR_A_CALL = 5.0
"""Seconds of the lease that must be left when a call begins. It is renewed while the call takes longer; a worker that
loses it all the same may repeat the call, and the journal has both."""


class TurnJournal:
    """The journal of one turn, under its lane's lease."""

    def __init__(self, turns: Turns, claimed: Claimed, frozen: FrozenTurn, guard: Guard) -> None:
        self._turns = turns
        self._claimed = claimed
        self._frozen = frozen
        self._guard = guard

    async def call(
        self, step: str, request: Mapping[str, Any], run: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> Mapping[str, Any]:
        """The stored result of `step`, or that of running it now. Raises what `run` raises, and LeaseLost.

        What came of a call stays in memory until it is stored: a store that is away for a moment does not make it be
        paid for again.
        """
        await self._guard.ensure(LEASE_FOR_A_CALL)
        begun = await self._turns.begin_step(self._claimed, self._frozen, step, digest(request))
        if isinstance(begun, StepDone):
            if not begun.same_request:
                turn_id = str(self._frozen.turn_id)
                log.warning("a journaled step was asked with another request", turn_id=turn_id, step=step)
            return begun.result
        crashpoints.reach("dialog.before_model_call")
        try:
            result = await run()
        except DecisionError as error:
            await self._end(step, begun, StepEnd(None, error_text(error.reason, error)))
            raise
        crashpoints.reach("dialog.after_model_call")
        await self._end(step, begun, StepEnd(result))
        crashpoints.reach("dialog.after_journal_commit")
        return result

    async def _end(self, step: str, begun: StepBegun, end: StepEnd) -> None:
        tenant_id, turn_id = self._claimed.lease.tenant_id, self._frozen.turn_id
        await until_stored(lambda: self._turns.end_step(tenant_id, turn_id, step, begun.number, end))


def digest(request: Mapping[str, Any]) -> bytes:
    """Tells whether a step is asked with the same request."""
    return sha256(json.dumps(request, sort_keys=True, default=str).encode()).digest()
