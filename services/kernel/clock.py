"""Time as a dependency, so that tests can move it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SteadyClock:
    """The time at which it was made, and what has passed since: setting the machine's clock does not move it."""

    def __init__(self, clock: Clock, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._began, self._at = steady(), clock.now()

    def now(self) -> datetime:
        return self._at + timedelta(seconds=self._steady() - self._began)
