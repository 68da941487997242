"""Try again for as long as it makes sense: what was decided must be stored, and what was planned must be done."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.dialog.domain.retry import Delays
from services.dialog.ports import Faulty, Never, NotNow
from services.kernel.errors import Kind, ParleyError
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

T = TypeVar("T")
log = get_logger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY_OF_A_COMMIT = 1.0
LONGEST_TRYING = 2.0
"""Seconds after which the lane of a plan whose effects fail lets its place go."""
FAULTS_OF_AN_EFFECT = 50
"""Visits after which an effect that meets a service's own fault is given up."""
LEASE_FOR_AN_EFFECT = 6.0
"""Seconds of the lease that must be left when an effect begins: more than its call may take."""


async def until_stored(commit: Callable[[], Awaitable[T]]) -> T:
    """Commit under a lane's fence, again and again while the store is away: as long as nobody else has taken the lane,
    what was decided still holds. Raises LeaseLost."""
    delay = FIRST_DELAY
    while True:
        try:
            return await commit()
        except ParleyError as error:
            if error.kind is not Kind.UNAVAILABLE:
                raise
            log.warning("a commit waits for the store", error=str(error), delay=delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_OF_A_COMMIT)


class Patience:
    """For how long one visit to a lane goes on trying to carry out a committed plan. Then its place is for others, and
    the lane comes back."""

    def __init__(self, guard: Guard) -> None:
        lease = guard.lease
        self._guard = guard
        self._until = asyncio.get_running_loop().time() + LONGEST_TRYING
        self._first = lease.delays == 0
        faults = Delays.of(lease.delays).faults
        self._last = faults >= FAULTS_OF_AN_EFFECT or (lease.alone and lease.attempts > FAULTS_OF_AN_EFFECT)

    async def until_done(self, effect: Callable[[], Awaitable[T]]) -> T:
        """Carry out an effect, again and again until it works or the time is over. Raises NotNow, LeaseLost, and Never:
        also when a service has been at fault for too long."""
        delay = FIRST_DELAY
        while True:
            await self._guard.ensure(LEASE_FOR_AN_EFFECT)
            try:
                return await self._once(effect)
            except NotNow as error:
                if isinstance(error, Faulty) and self._last:
                    raise Never("INTERNAL", str(error)) from error
                pause = delay * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                if asyncio.get_running_loop().time() + pause > self._until:
                    raise
                log.warning("an effect waits", error=str(error), delay=delay)
            await asyncio.sleep(pause)
            delay = 2 * delay

    async def _once(self, effect: Callable[[], Awaitable[T]]) -> T:
        """A service that takes long has less time at the first visit than at a later one, when it may be just slow."""
        if not self._first:
            return await effect()
        try:
            async with asyncio.timeout_at(self._until + FIRST_DELAY):
                return await effect()
        except TimeoutError as error:
            raise NotNow(f"no answer within {LONGEST_TRYING:g} s") from error
