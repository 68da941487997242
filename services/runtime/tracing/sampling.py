"""Which new traces are recorded."""

import time
from collections.abc import Callable

_RANDOM_BITS = (1 << 56) - 1
"""The part of a trace id that is random by W3C trace context, level 2."""


class Sampler:
    """Records a share of new traces, and so many a second at most.

    `ratio` is 0 to 1. `per_second` fills a bucket that holds as many; 0 stands for no bound. A continued trace is not
    asked about: what its first process decided holds everywhere.
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
