"""Try again for as long as it makes sense: what was decided must be stored, and what was planned must be done."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.dialog.usecases.ports import NotNow
from services.kernel.errors import Kind, ParleyError
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

T = TypeVar("T")
log = get_logger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY_OF_A_COMMIT = 1.0
LONGEST_DELAY_OF_AN_EFFECT = 5.0
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


async def until_done(effect: Callable[[], Awaitable[T]], guard: Guard) -> T:
    """Carry out an effect, again and again until it works. Raises Never, and LeaseLost."""
    delay = FIRST_DELAY
    while True:
        await guard.ensure(LEASE_FOR_AN_EFFECT)
        try:
            return await effect()
        except NotNow as error:
            log.warning("an effect waits", error=str(error), delay=delay)
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        delay = min(2 * delay, LONGEST_DELAY_OF_AN_EFFECT)
