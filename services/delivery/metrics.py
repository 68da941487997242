"""What the delivery service measures."""

import time
from collections import Counter as Counts
from collections.abc import Awaitable, Callable

from services.delivery.domain.channels import Channel
from services.delivery.domain.failures import Failure
from services.delivery.providers.base import Outbound, Provider, Sent
from services.delivery.usecases.ports import Calls, Stats
from services.runtime.metrics import Counter, Gauge, Metrics, Times

PARTS = Gauge("parley.delivery.parts", "{part}", "Parts that are not sent, by `state`; counted up to 10,000.", "state")
OLDEST = Gauge("parley.delivery.oldest.waiting", "s", "For how long the oldest waiting part has waited.")
LANES = Gauge("parley.delivery.lanes.running", "{lane}", "Conversations that this process is sending to.")
CHANNELS = Gauge(
    "parley.delivery.channels.amiss", "{channel}", "Channels with failures in a row, an open breaker or a pause."
)
CALLS = Counter(
    "parley.delivery.provider.calls",
    "{call}",
    "Calls of providers, by `outcome`: sent, cancelled, or the kind of the failure.",
    "outcome",
)
TIMES = Counter(
    "parley.delivery.provider.calls.within",
    "{call}",
    "Calls of providers that took at most `le` seconds, for `histogram_quantile`.",
    "le",
)
SIGNALS = Counter(
    "parley.delivery.signals",
    "{signal}",
    "Typing indicators and previews, by `outcome`: sent, or why they were dropped.",
    "outcome",
)


class QueueSize:
    """The answer to the last question about the queue."""

    def __init__(self, metrics: Metrics, count: Callable[[str], Awaitable[Stats]]) -> None:
        """`count` counts the parts of one tenant, or of all for an empty id."""
        self._count = count
        self._last: Stats | None = None
        metrics.ask_first(self.refresh)
        metrics.watch(PARTS, self.by_state)
        metrics.watch(OLDEST, self.oldest)

    async def refresh(self) -> None:
        self._last = await self._count("")

    def by_state(self) -> dict[str, float]:
        last = self._last
        if last is None:
            return {}
        return {"waiting": last.waiting, "retrying": last.retrying, "unknown": last.unknown, "dead": last.dead}

    def oldest(self) -> float:
        return max(0.0, (self._last.oldest_waiting if self._last else None) or 0.0)


class MeasuredCalls:
    """`Calls` that are counted and timed."""

    def __init__(self, calls: Calls, metrics: Metrics) -> None:
        self._calls = calls
        self._outcomes: Counts[str] = Counts()
        self._times = Times()
        metrics.watch(CALLS, lambda: dict(self._outcomes))
        metrics.watch(TIMES, self._times.read)

    @property
    def timeout(self) -> float:
        return self._calls.timeout

    async def make(self, provider: Provider, outbound: Outbound, channel: Channel) -> Sent | Failure:
        started, outcome = time.monotonic(), "cancelled"
        try:
            result = await self._calls.make(provider, outbound, channel)
            outcome = result.kind.name.lower() if isinstance(result, Failure) else "sent"
            return result
        finally:
            self._outcomes[outcome] += 1
            self._times.add(time.monotonic() - started)
