"""Statistics of the cache since the process started."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from parley.context.v1 import context_pb2

KEPT = 1000
"""The number of times that are kept for the percentiles."""


@dataclass
class Stats:
    """Counts hits and misses by level, and the time of reads and saves."""

    hits: Counter[int] = field(default_factory=Counter)
    misses: Counter[int] = field(default_factory=Counter)
    unreadable: Counter[int] = field(default_factory=Counter)
    """Values that could not be opened; each counts as a miss too."""
    reads: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    saves: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def count(self, level: int, hits: int, misses: int) -> None:
        """Adds to the hits and misses of a level."""
        self.hits[level] += hits
        self.misses[level] += misses

    @contextmanager
    def read(self) -> Iterator[None]:
        """Times a read."""
        started = time.perf_counter()
        yield
        self.reads.append(time.perf_counter() - started)

    @contextmanager
    def save(self) -> Iterator[None]:
        """Times a save."""
        started = time.perf_counter()
        yield
        self.saves.append(time.perf_counter() - started)

    def report(self, memory_entries: int) -> context_pb2.GetStatsResponse:
        """Returns everything in the form of the contract."""
        levels = (
            context_pb2.CACHE_LEVEL_MEMORY,
            context_pb2.CACHE_LEVEL_REDIS,
            context_pb2.CACHE_LEVEL_POSTGRES,
        )
        return context_pb2.GetStatsResponse(
            levels=[
                context_pb2.GetStatsResponse.Level(
                    level=level,
                    hits=self.hits[level],
                    misses=self.misses[level],
                    unreadable=self.unreadable[level],
                )
                for level in levels
            ],
            memory_entries=memory_entries,
            read_p50_micros=percentile(self.reads, 0.5),
            read_p99_micros=percentile(self.reads, 0.99),
            save_p50_micros=percentile(self.saves, 0.5),
            save_p99_micros=percentile(self.saves, 0.99),
        )


def percentile(times: deque[float], share: float) -> int:
    """Returns the time, in microseconds, that a `share` of `times` (in seconds) do not exceed; 0 if there are none."""
    if not times:
        return 0
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6)
