"""The price of guessing: failures are counted by the caller's address, and too many of them make it wait."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cachetools import LRUCache

from services.edge.problems import Problem
from services.edge.server.addresses import network_of
from services.runtime.logs import get_logger

log = get_logger(__name__)

WINDOW = 60.0
ADDRESSES = 10_000
"""Addresses that are remembered; the one unheard of for longest is forgotten first."""
LOOKUPS = 200
"""Look-ups that are under way for strangers at once."""


@dataclass(slots=True)
class _Record:
    until: float
    failures: int = 0
    lookups: int = 0
    logged: bool = False


class FailureLimit:
    """Allows an address `most` failures within a minute.

    A caller whose key or secret is known to be right is never refused: many people may share an address, and one of
    them must not lock out the others. So the limit is for look-ups on behalf of strangers, and for failures.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        """Failures since the start, by kind."""
        self._most = most
        self._clock = clock
        self._records: LRUCache[str, _Record] = LRUCache(ADDRESSES)
        self._lookups = 0

    @contextmanager
    def looking_up(self, address: str) -> Iterator[None]:
        """Wraps a look-up for a stranger. Raises Problem: 429 after too many failures, 503 during too many look-ups."""
        record = self._record(address)
        if record.failures + record.lookups >= self._most:
            raise self._wait(record)
        if self._lookups >= LOOKUPS:
            raise Problem(503, "OVERLOADED", "There are too many unknown callers at once.", retry_after=1.0)
        record.lookups += 1
        self._lookups += 1
        try:
            yield
        finally:
            record.lookups -= 1
            self._lookups -= 1

    def failed(self, address: str, kind: str, answer: Problem) -> Problem:
        """Counts a failure, and returns the answer to it: `answer`, or 429 when it is one too many."""
        self.counts[kind] += 1
        record = self._record(address)
        record.failures += 1
        if record.failures <= self._most:
            return answer
        if not record.logged:
            record.logged = True
            log.error("somebody is guessing", what=kind, address=network_of(address), alert=True)
        return self._wait(record)

    def _record(self, address: str) -> _Record:
        now, network = self._clock(), network_of(address)
        record = self._records.get(network)
        if record is None:
            record = self._records[network] = _Record(now + WINDOW)
        elif record.until <= now:
            record.until, record.failures, record.logged = now + WINDOW, 0, False
        return record

    def _wait(self, record: _Record) -> Problem:
        detail = "Too many failed tries from this address; wait, and check the key, the secret or the channel's id."
        return Problem(429, "TOO_MANY_FAILURES", detail, retry_after=record.until - self._clock())
