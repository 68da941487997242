"""How long a person waits for an answer while the model's endpoint is away, and what they hear when that is over."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from services.dialog import texts
from services.dialog.domain.failures import DecisionError
from services.dialog.domain.retry import (
    GiveUp,
    TooLate,
    TryAgain,
    after_failure,
)
from services.dialog.domain.turns import Claimed, Turn
from services.dialog.ports import Deliveries, Never, Steps
from services.dialog.usecases.journal import call_once
from services.kernel.clock import Clock
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

log = get_logger(__name__)

FOR_A_CALLER = 20.0
"""Seconds at most for who waits for the reply of a Chat; less than callers wait, so that they hear why."""
LATEST = 86_400.0
"""Seconds after which no answer comes any more: messengers take none after a day."""


class Verdicts:
    """What follows a failure, found out once: a flow that was told of its last attempt can rely on it."""

    def __init__(self, judge: Callable[[DecisionError], TryAgain | TooLate | GiveUp]) -> None:
        self._judge = judge
        self._judged: tuple[DecisionError, TryAgain | TooLate | GiveUp] | None = None

    def of(self, error: DecisionError) -> TryAgain | TooLate | GiveUp:
        if self._judged is None or self._judged[0] is not error:
            self._judged = error, self._judge(error)
        return self._judged[1]


class LateAnswers:
    """The time for an answer, by the bot's settings or the service's."""

    def __init__(self, steps: Steps, deliveries: Deliveries, clock: Clock, answer_within: float) -> None:
        """`answer_within`: seconds for bots that do not say."""
        self._steps = steps
        self._deliveries = deliveries
        self._clock = clock
        self._answer_within = answer_within

    def verdict(self, claimed: Claimed, turn: Turn, error: DecisionError) -> TryAgain | TooLate | GiveUp:
        """What follows a failed decision; `TooLate` only for a bot that still answers then."""
        jitter = random.random()  # noqa: S311 - no secret
        what = after_failure(error, claimed.lease.attempts, left=self._left(claimed, turn), jitter=jitter)
        if isinstance(what, TooLate) and not self._answers_late(claimed, turn):
            return GiveUp()
        return what

    async def announce(self, turn: Turn, guard: Guard) -> None:
        """Send the error message before an answer that comes late, once a turn: it is a step of its journal. Who waits
        for the reply of a call hears of it otherwise. Raises NotNow and LeaseLost."""
        last = turn.last
        if last.chat:
            return
        text = texts.error_message(turn.inputs.bot)

        async def say() -> Mapping[str, Any]:
            try:
                await self._deliveries.say(last.request, turn.lease.lane_id, f"{turn.turn_id}/late", text)
            except Never as error:
                log.error("nobody can be told of a delay", turn_id=str(turn.turn_id), reason=error.reason)
            return {}

        await call_once(self._steps, turn, guard, "late", {"text": text}, say)

    def _left(self, claimed: Claimed, turn: Turn) -> float:
        """Seconds until the time for an answer is over."""
        bot = claimed.bot
        assert bot is not None
        within = self._answer_within if bot.answer_within is None else bot.answer_within.total_seconds()
        if claimed.head.chat:
            within = min(within, FOR_A_CALLER)
        return within + bot.debounce.total_seconds() - self._age(claimed, turn)

    def _answers_late(self, claimed: Claimed, turn: Turn) -> bool:
        """Whether an answer still comes when the time for it is over."""
        return claimed.bot is not None and claimed.bot.answer_late and self._age(claimed, turn) < LATEST

    def _age(self, claimed: Claimed, turn: Turn) -> float:
        return claimed.head.age + (self._clock.now() - turn.started_at).total_seconds()
