"""Work that a process does again and again beside its calls: tidying up, looking after partitions, sweeps."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from services.runtime.app import Background
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

FIRST_WITHIN = 10.0
"""Seconds after the start within which work is done for the first time: a process that is restarted often, before
`every` is over, would else never do it."""
RETRY = 30.0
"""Seconds after which work that failed is tried again at the latest."""
SPREAD = 0.1
"""The share by which a pause may be shorter or longer, so that replicas that started together drift apart."""


def periodic(
    name: str, work: Callable[[], Awaitable[object]], *, every: float, soon: float | None = None
) -> Background:
    """Background work that runs soon after the start and then about every `every` seconds, whatever becomes of it.

    `soon`: seconds until the next run while the work returns something true, which then means that more is to be done.
    A failure is logged when it begins and when it is over. The work is idempotent: replicas do it too, each in its own
    time.
    """

    async def run(stop: asyncio.Event) -> None:
        pause = first_pause(every, random.random())  # noqa: S311 - no secret
        failing = False
        while not await stopped(stop, pause):
            more: object = False
            try:
                more = await work()
            except Exception as error:
                if not failing:
                    log.warning("periodic work fails", work=name, error=describe(error))
                failing = True
            else:
                if failing:
                    log.info("periodic work succeeds again", work=name)
                failing = False
            wanted = soon if more and soon is not None else min(every, RETRY) if failing else every
            pause = spread(wanted, random.random())  # noqa: S311 - no secret

    run.__qualname__ = f"periodic: {name}"
    return run


def first_pause(every: float, chance: float) -> float:
    """Seconds before the first run; `chance` is from 0 to 1. Work of every hour at 0.5: 5 s; of every 2 s: 1 s."""
    return min(every, FIRST_WITHIN) * chance


def spread(seconds: float, chance: float) -> float:
    """A pause of about so many seconds; `chance` is from 0 to 1. 600 at 0, 0.5 and 1: 540, 600 and 660 s."""
    return seconds * (1 + SPREAD * (2 * chance - 1))


async def stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for so many seconds, or until `stop` is set; whether it is."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
