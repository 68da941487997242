"""What the dialog service measures."""

import time
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Sequence

from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.failures import DecisionError
from services.dialog.domain.turns import TurnEnd, Waiting
from services.dialog.model import (
    ClosableModel,
    ModelAnswer,
    OnDelta,
    Prompt,
)
from services.kernel.clock import Clock
from services.runtime.metrics import Counter, Gauge, Metrics, Times

MESSAGES = Gauge(
    "parley.dialog.messages", "{message}", "Messages that are not done, by `state`; counted up to 10,000.", "state"
)
OLDEST = Gauge("parley.dialog.oldest.waiting", "s", "For how long the oldest waiting message has waited.")
LANES = Gauge("parley.dialog.lanes.running", "{lane}", "Conversations that this process is working on.")
DONE = Counter(
    "parley.dialog.messages.done",
    "{message}",
    "Messages whose turn has ended, by `state`: COMPLETED, TERMINAL.",
    "state",
)
REPLIES = Counter(
    "parley.dialog.messages.done.within",
    "{message}",
    "Messages whose turn ended at most `le` seconds after their arrival, for `histogram_quantile`.",
    "le",
)
CALLS = Counter(
    "parley.dialog.model.calls",
    "{call}",
    "Calls of models, by `outcome`: ok, cancelled, or the failure's reason.",
    "outcome",
)
TIMES = Counter(
    "parley.dialog.model.calls.within",
    "{call}",
    "Calls of models that took at most `le` seconds, for `histogram_quantile`.",
    "le",
)
AWAY = Gauge("parley.dialog.model.away", "1", "1 while the model's endpoint is away and left alone.")
TOKENS = Counter("parley.dialog.model.tokens", "{token}", "Tokens of answered calls, by `direction`.", "direction")
PRICE = Counter("parley.dialog.model.price", "{USD}", "US dollars that answered calls have cost.")


class QueueSize:
    """The answer to the last question about the queue."""

    def __init__(self, metrics: Metrics, ask: Callable[[str], Awaitable[dialog_pb2.GetQueueStatsResponse]]) -> None:
        """`ask` asks about one tenant, or about all for an empty id."""
        self._ask = ask
        self._last = dialog_pb2.GetQueueStatsResponse()
        metrics.ask_first(self.refresh)
        metrics.watch(MESSAGES, self.by_state)
        metrics.watch(OLDEST, self.oldest)

    async def refresh(self) -> None:
        self._last = await self._ask("")

    def by_state(self) -> dict[str, float]:
        last = self._last
        return {"waiting": last.waiting, "failed": last.failed, "dead": last.dead, "parked": last.parked}

    def oldest(self) -> float:
        return self._last.oldest_waiting.ToMilliseconds() / 1000


class EndedTurns:
    """Counts and times the messages of turns that have ended."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._states: Counts[str] = Counts()
        self._times = Times()
        metrics.watch(DONE, lambda: dict(self._states))
        metrics.watch(REPLIES, self._times.read)

    def __call__(self, item: TurnEnd, messages: Sequence[Waiting]) -> None:
        now = self._clock.now()
        self._states[item.state.name] += len(item.message_ids)
        for message in messages:
            self._times.add((now - message.received_at).total_seconds())


class MeasuredModel:
    """A model whose calls are counted, timed and added up."""

    def __init__(self, model: ClosableModel, metrics: Metrics, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is in seconds."""
        self._model, self._now = model, now
        self._outcomes: Counts[str] = Counts()
        self._tokens: Counts[str] = Counts()
        self._micros_usd = 0
        self._times = Times()
        metrics.watch(CALLS, lambda: dict(self._outcomes))
        metrics.watch(TIMES, self._times.read)
        metrics.watch(TOKENS, lambda: dict(self._tokens))
        metrics.watch(PRICE, lambda: self._micros_usd / 1e6)

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        started, outcome = self._now(), "cancelled"
        try:
            answer = await self._model.answer(prompt, on_delta)
            outcome = "ok"
        except DecisionError as error:
            outcome = error.reason
            raise
        finally:
            self._outcomes[outcome] += 1
            self._times.add(self._now() - started)
        self._tokens["input"] += answer.usage.input_tokens
        self._tokens["output"] += answer.usage.output_tokens
        self._micros_usd += answer.usage.price_micros_usd
        return answer

    async def close(self) -> None:
        await self._model.close()
