"""What guessing costs: failures are counted by the caller's address, and too many make it wait."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.edge.problems import Problem
from services.edge.server.peers import crowd_of
from services.runtime.logs import get_logger

log = get_logger(__name__)

WINDOW = 60.0
ADDRESSES = 10_000
"""Addresses that are remembered; the one that failed longest ago goes first."""
LOOKUPS = 200
"""Questions to other services that are under way for strangers at once."""


@dataclass(slots=True)
class _Record:
    until: float
    failures: int = 0
    asking: int = 0
    told: bool = False


class Guesses:
    """Allows an address `most` failures in a window of a minute.

    Who shows something that is known to be right is never refused: many people may share an address, and one of them
    must not lock out the others. So this is asked before a look-up for a stranger, and after a failure.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures: Counter[str] = Counter()
        """Since the start, by kind."""
        self._most = most
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._asking = 0

    @contextmanager
    def asking(self, address: str) -> Iterator[None]:
        """Around a look-up for a stranger. Raises Problem: 429 after too many failures, 503 while others ask."""
        record = self._record(address)
        if record.failures + record.asking >= self._most:
            raise self._wait(record)
        if self._asking >= LOOKUPS:
            raise Problem(503, "OVERLOADED", "Too many unknown callers are asking at once.", retry_after=1.0)
        record.asking += 1
        self._asking += 1
        try:
            yield
        finally:
            record.asking -= 1
            self._asking -= 1

    def failed(self, address: str, kind: str, answer: Problem) -> Problem:
        """Count a failure; what to answer: `answer`, or 429 when it was one too many."""
        self.failures[kind] += 1
        record = self._record(address)
        record.failures += 1
        if record.failures <= self._most:
            return answer
        if not record.told:
            record.told = True
            log.error("somebody is guessing", what=kind, address=crowd_of(address), alert=True)
        return self._wait(record)

    def _record(self, address: str) -> _Record:
        now, crowd = self._clock(), crowd_of(address)
        record = self._records.get(crowd)
        if record is None:
            record = self._records[crowd] = _Record(now + WINDOW)
            while len(self._records) > ADDRESSES:
                self._records.popitem(last=False)
        elif record.until <= now:
            record.until, record.failures, record.told = now + WINDOW, 0, False
        self._records.move_to_end(crowd)
        return record

    def _wait(self, record: _Record) -> Problem:
        detail = "Too many failed tries from this address; wait, and check the key, the secret or the channel's id."
        return Problem(429, "TOO_MANY_FAILURES", detail, retry_after=record.until - self._clock())
