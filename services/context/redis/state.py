"""Whether Redis can be used and believed now."""

import time
from collections.abc import Sequence

import redis.exceptions

from services.context.ports import Missed, MissedSaves
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

AWAY_SECONDS = 0.5
"""After a failure Redis is left alone for this long."""
FAILURES = (redis.exceptions.RedisError, OSError, TimeoutError)


class RedisState:
    """What this process knows of Redis: whether it answers, and whether it was told of every save.

    A save that Redis misses is written down in Postgres. Until Redis has been told of it, no process believes Redis.
    """

    def __init__(self, missed: MissedSaves) -> None:
        self.missed = missed
        self.complete = False
        """Postgres lists no missed save, so nothing in Redis is stale."""
        self.listening = False
        """This process is told of the saves of others."""
        self._away_until = 0.0
        self._misses = 0
        self._noting = 0
        """The number of misses that are being written down."""

    @property
    def away(self) -> bool:
        return time.monotonic() < self._away_until

    @property
    def misses(self) -> int:
        """A number that changes whenever Redis misses a save of this process."""
        return self._misses

    def failed(self, error: BaseException) -> None:
        """Notes that a call of Redis failed. Raises any other error again."""
        if not isinstance(error, FAILURES):
            raise error
        if not self.away:
            log.warning("redis is away; going on without it", error=describe(error))
            self._away_until = time.monotonic() + AWAY_SECONDS

    def answers(self) -> None:
        """Notes that Redis is back."""
        self._away_until = 0.0

    async def note(self, missed: Sequence[Missed]) -> None:
        """Writes down what Redis missed, before the caller learns that it is saved. Raises STORAGE_UNAVAILABLE."""
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
        """Finds out whether Redis has missed anything. Called before Redis is read for the first time."""
        self.complete = not await self.missed.saves(1)

    def made_up(self, misses: int) -> None:
        """Notes that no miss was left when `misses` was read."""
        self.complete = misses == self._misses and not self._noting
