"""How long a person waits for an answer while the model's endpoint is away, and what they hear when that is over."""

import random
from collections.abc import Mapping
from typing import Any

from services.dialog import texts
from services.dialog.domain import DecisionError
from services.dialog.retry import TooLate, TryAgain, after_failure
from services.dialog.turns import Claimed
from services.dialog.usecases.begun import Begun
from services.dialog.usecases.journal import TurnJournal
from services.dialog.usecases.ports import Deliveries, FrozenTurn, Never, Turns
from services.kernel.clock import Clock
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

log = get_logger(__name__)

FOR_A_CALLER = 20.0
"""Seconds at most for who waits for the reply of a Chat; less than callers wait, so that they hear why."""
LATEST = 86_400.0
"""Seconds after which no answer comes any more: messengers take none after a day."""


class Lateness:
    """The time for an answer, by the bot's settings or the service's."""

    def __init__(self, turns: Turns, deliveries: Deliveries, clock: Clock, answer_within: float) -> None:
        """`answer_within`: seconds for bots that do not say."""
        self._turns = turns
        self._deliveries = deliveries
        self._clock = clock
        self._answer_within = answer_within

    async def after(self, claimed: Claimed, begun: Begun, guard: Guard, error: DecisionError) -> TryAgain | None:
        """When a turn whose decision failed is tried again; None when it is given up. Who gets an answer late has been
        told so. Raises NotNow and LeaseLost."""
        jitter = random.random()  # noqa: S311 - no secret
        what = after_failure(error, claimed.lease.attempts, left=self._left(claimed, begun), jitter=jitter)
        if isinstance(what, TooLate) and self._answers_late(claimed, begun):
            await self._tell(claimed, begun, guard)
            return TryAgain(what.delay, counted=False)
        return what if isinstance(what, TryAgain) else None

    def _left(self, claimed: Claimed, begun: Begun) -> float:
        """Seconds until the time for an answer is over."""
        bot = claimed.bot
        assert bot is not None
        within = self._answer_within if bot.answer_within is None else bot.answer_within.total_seconds()
        if claimed.head.chat:
            within = min(within, FOR_A_CALLER)
        return within + bot.debounce.total_seconds() - self._age(claimed, begun)

    def _answers_late(self, claimed: Claimed, begun: Begun) -> bool:
        """Whether an answer still comes when the time for it is over."""
        return claimed.bot is not None and claimed.bot.answer_late and self._age(claimed, begun) < LATEST

    async def _tell(self, claimed: Claimed, begun: Begun, guard: Guard) -> None:
        """Send the error message before an answer that comes late, once a turn: it is a step of its journal. Who waits
        for the reply of a call hears of it otherwise."""
        last = begun.last
        if last.chat:
            return
        text = texts.error_message(begun.inputs.bot)

        async def say() -> Mapping[str, Any]:
            key = f"{begun.turn_id}/late"
            try:
                await self._deliveries.say(last.request, claimed.lease.lane_id, key, text)
            except Never as error:
                log.error("nobody can be told of a delay", turn_id=str(begun.turn_id), reason=error.reason)
            return {}

        frozen = FrozenTurn(begun.turn_id, begun.first.seq, last.seq, last.message_id, begun.inputs, begun.started_at)
        await TurnJournal(self._turns, claimed, frozen, guard).call("late", {"text": text}, say)

    def _age(self, claimed: Claimed, begun: Begun) -> float:
        return claimed.head.age + (self._clock.now() - begun.started_at).total_seconds()
