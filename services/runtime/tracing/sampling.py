"""Which new traces are recorded."""

import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context, create_key
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_RANDOM_BITS = (1 << 56) - 1
"""The part of a trace id that is random by W3C trace context, level 2."""

UNKNOWN_CALLER = create_key("parley.unknown_caller")
"""Set in the context of a new trace that somebody without a valid token begins."""

_DROPPED = SamplingResult(Decision.DROP)


class Cap:
    """Takes a share of new traces, and so many a second at most.

    `ratio` is 0 to 1. `per_second` fills a bucket that holds as many; 0 stands for no bound.
    """

    def __init__(self, ratio: float, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._bound = round(ratio * (_RANDOM_BITS + 1))
        self._rate = per_second
        self._capacity = max(per_second, 1.0)
        self._level = self._capacity
        self._monotonic = monotonic
        self._at = monotonic()

    def takes(self, trace_id: int) -> bool:
        """Whether the new trace with this id is recorded."""
        if trace_id & _RANDOM_BITS >= self._bound:
            return False
        if self._rate == 0:
            return True
        now = self._monotonic()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class RateCapped(Sampler):
    """Decides on new traces: within a cap for those whom we know, and within one for all others.

    It is the root of a `ParentBased` sampler: what the first process of a trace decided holds everywhere.
    """

    def __init__(self, known: Cap, unknown: Cap) -> None:
        self._known = known
        self._unknown = unknown

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        cap = self._unknown if parent_context and UNKNOWN_CALLER in parent_context else self._known
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes) if cap.takes(trace_id) else _DROPPED

    def get_description(self) -> str:
        return "RateCapped"
