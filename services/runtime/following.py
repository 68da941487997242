"""Follows what another process tells, and connects again whenever that breaks."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from services.runtime.logs import describe, get_logger
from services.runtime.periodic import stopped

log = get_logger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
HEALTHY = 5.0
"""Seconds that a connection has to stand before the next pause is a short one again: one that breaks at once, again and
again, must not be a loop without pauses."""

Connect = Callable[[Callable[[], None]], Awaitable[None]]
"""Follows until the connection breaks, and calls what it is given once the connection stands."""


async def follow(stop: asyncio.Event, connect: Connect, *, name: str, longest: float = LONGEST_PAUSE) -> None:
    """Follow until `stop` is set, with pauses of at most `longest` seconds between two tries.

    Whatever breaks a connection, the next one is tried: a message that nobody understands must not end the process.
    """
    stopping = asyncio.create_task(stop.wait())
    pause, away = 0.0, False
    try:
        while not stop.is_set():
            stood, broken = await _once(connect, stopping)
            if stop.is_set():
                return
            if stood or not away:
                log.warning("connection lost", to=name, error=describe(broken) if broken else "it was closed")
            away = True
            pause = next_pause(pause, stood, longest)
            await stopped(stop, pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
    finally:
        stopping.cancel()


async def _once(connect: Connect, stopping: "asyncio.Future[Any]") -> tuple[float, BaseException | None]:
    """One connection: the seconds that it stood (0: never), and what broke it."""
    loop = asyncio.get_running_loop()
    stands: list[float] = []
    following: asyncio.Future[None] = asyncio.ensure_future(connect(lambda: stands.append(loop.time())))
    both: set[asyncio.Future[Any]] = {following, stopping}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        following.cancel()
        (outcome,) = await asyncio.gather(following, return_exceptions=True)
    return (loop.time() - stands[0] if stands else 0.0), outcome


def next_pause(before: float, stood: float, longest: float) -> float:
    """Seconds until the next try, after a pause of `before` (0: there was none) and a connection that stood for `stood`
    seconds: 0.1, 0.2, 0.4 ... up to `longest`, and 0.1 again after a connection that was healthy.
    """
    if not before or stood >= HEALTHY:
        return min(FIRST_PAUSE, longest)
    return min(2 * before, longest)
