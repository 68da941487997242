"""How slow this machine is at the moment: what scales a bound in seconds, where no count can take its place."""

import statistics
import threading
import time
from typing import Self

REFERENCE = 0.019
"""Seconds that the work takes on the machine that bounds are written for."""


def work() -> None:
    """A fixed piece."""
    total = 0
    for number in range(200_000):
        total += number & 7


def slowness() -> float:
    """How many times as long as there a piece of work takes here and now, beside whatever else runs; at least 1."""
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return max(1.0, statistics.mean(taken) / REFERENCE)


class Pace:
    """Made before something is measured, and asked after it: a neighbour may have come or gone meanwhile."""

    def __init__(self) -> None:
        self._before = slowness()

    def scaled(self, seconds: float) -> float:
        """What takes so long on the machine that bounds are written for."""
        return seconds * max(self._before, slowness())


class Beside:
    """Looks how slow the machine is while something else is measured: `slowness` is that of the worst moment."""

    EVERY = 0.2

    def __init__(self) -> None:
        self.slowness = 1.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self.EVERY):
            begun = time.perf_counter()
            work()
            self.slowness = max(self.slowness, (time.perf_counter() - begun) / REFERENCE)
