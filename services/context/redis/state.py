"""How far Redis may be believed now."""

import time
from collections.abc import Sequence

import redis.exceptions

from services.context.ports import Missed, MissedSaves
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

AWAY_SECONDS = 0.5
"""After a failure nobody asks Redis again for so long."""
FAILURES = (redis.exceptions.RedisError, OSError, TimeoutError)


class RedisState:
    """What this process knows of Redis: whether it answers, and whether it has heard of every save.

    What it misses is written down in Postgres, by whoever saved; until that is made up for, Redis is not believed, in
    this process or after its end in another.
    """

    def __init__(self, missed: MissedSaves) -> None:
        self.missed = missed
        self.complete = False
        """Redis holds nothing that is stale, as far as Postgres knows."""
        self.listening = False
        """This process hears of others' saves."""
        self._away_until = 0.0
        self._misses = 0
        self._noting = 0
        """Misses that are being written down."""

    @property
    def away(self) -> bool:
        return time.monotonic() < self._away_until

    @property
    def misses(self) -> int:
        """Changes with each miss of this process's own."""
        return self._misses

    def failed(self, error: BaseException) -> None:
        """A call of Redis has failed. Raises what is no failure of Redis."""
        if not isinstance(error, FAILURES):
            raise error
        if not self.away:
            log.warning("redis is away; going on without it", error=describe(error))
            self._away_until = time.monotonic() + AWAY_SECONDS

    def answers(self) -> None:
        """Redis is back."""
        self._away_until = 0.0

    async def note(self, missed: Sequence[Missed]) -> None:
        """Write down what Redis missed, before anybody is told that it is saved. Raises STORAGE_UNAVAILABLE."""
        if not missed:
            return
        self.complete = False
        self._misses += 1
        self._noting += 1
        try:
            await self.missed.add(missed)
        finally:
            self._noting -= 1

    async def look(self) -> None:
        """Find out whether Redis has missed anything, before it is read for the first time."""
        self.complete = not await self.missed.saves(1)

    def made_up(self, misses: int) -> None:
        """Nothing was missed any more when `misses` was read."""
        self.complete = misses == self._misses and not self._noting
