"""How slow this machine is at the moment: what scales a bound in seconds, where no count can take its place."""

import statistics
import time

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
