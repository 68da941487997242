"""Leaves a model's endpoint alone while it answers nobody, and tells its failures from those of single messages."""

import random
from collections.abc import Callable
from time import monotonic

from services.dialog.domain.failures import Blame, DecisionError, FailureKind
from services.dialog.model import (
    ClosableModel,
    ModelAnswer,
    OnDelta,
    Prompt,
)
from services.kernel.breaker import Breaker, BreakerPolicy, Closed, HalfOpen, Open, admit, failed, succeeded
from services.runtime.logs import get_logger

log = get_logger(__name__)

POLICY = BreakerPolicy(failures=5, first_open=1.0, longest_open=15.0, probe=60.0)
LOOK_AGAIN = 2.0
"""Seconds after which a turn looks again that waits for somebody else's probe."""
SPREAD = 0.25
"""Share of a wait by which it varies upwards, so that those who wait do not all come back together."""
OF_LATE = 1.5
"""Seconds; less than between two attempts of a message, so that who was answered within them was answered between its
failures."""
PATIENT = 10.0
"""Seconds; a bot that waits less may itself be to blame for its time-outs."""


class GuardedModel:
    """A model behind a circuit breaker. One endpoint with one key has one of these in a process."""

    def __init__(
        self, model: ClosableModel, policy: BreakerPolicy = POLICY, now: Callable[[], float] = monotonic
    ) -> None:
        """`now` tells seconds."""
        self._model = model
        self._policy = policy
        self._now = now
        self._breaker: Breaker = Closed()
        self._answered_at = float("-inf")

    def wait(self) -> float:
        """Seconds until it makes sense to ask; 0 for now."""
        match self._breaker:
            case Open(until) if until > self._now():
                return _spread(until - self._now())
            case HalfOpen(until) if until > self._now():
                return _spread(min(until - self._now(), LOOK_AGAIN))
        return 0.0

    def check(self) -> None:
        """Raise DecisionError while it makes no sense to ask."""
        wait = self.wait()
        if wait > 0:
            raise away(wait)

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        """Ask, unless the endpoint is away. Raises DecisionError, which tells whom to blame."""
        self._breaker, wait = admit(self._breaker, self._now(), self._policy)
        if wait > 0:
            raise away(self.wait())
        probing = isinstance(self._breaker, HalfOpen)
        try:
            answer = await self._model.answer(prompt, on_delta)
        except DecisionError as error:
            self._judge(error, prompt, probing)
            raise
        except BaseException:
            if probing and isinstance(self._breaker, HalfOpen):  # found out nothing: the next one may
                self._breaker = HalfOpen(self._now(), self._breaker.times)
            raise
        self._answered()
        return answer

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    def _answered(self) -> None:
        self._answered_at = self._now()
        self._breaker, recovered = succeeded(self._breaker)
        if recovered:
            log.info("the model's endpoint is back")

    def _judge(self, error: DecisionError, prompt: Prompt, probing: bool) -> None:
        if error.kind is not FailureKind.RETRYABLE:  # it has answered, though not as one would like
            self._answered()
            return
        hasty = error.reason == "MODEL_TIMEOUT" and prompt.timeout < PATIENT
        before = self._breaker
        if probing or not hasty:
            self._breaker = failed(before, self._now(), self._policy)
        if isinstance(self._breaker, Open) and self._breaker is not before:
            seconds = round(self._breaker.until - self._now(), 1)
            log.warning("the model's endpoint is away", reason=error.reason, error=str(error), again_in=seconds)
        if not isinstance(self._breaker, Closed):
            error.blame = Blame.ENDPOINT
            error.retry_after = max(error.retry_after or 0.0, self.wait())
        elif self._now() - self._answered_at > OF_LATE:
            error.blame = Blame.NOBODY


def away(wait: float) -> DecisionError:
    """Nothing was asked, because nobody would answer for so many seconds."""
    message = "The model's endpoint is away; it is asked again as soon as it answers anybody."
    return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", message, wait, Blame.ENDPOINT)


def _spread(seconds: float) -> float:
    return seconds * (1 + SPREAD * random.random())  # noqa: S311 - no secret
