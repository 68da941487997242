"""Looks at something that others may change: when somebody says so, and now and then in case that was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.runtime.logs import describe, get_logger

log = get_logger(__name__)


async def look_when_nudged(
    stop: asyncio.Event,
    nudged: asyncio.Event,
    look: Callable[[], Awaitable[object]],
    *,
    poll: Callable[[], float],
    failing: str,
) -> None:
    """Look whenever `nudged` is set, and after `poll()` seconds without it, until `stop` is set.

    Looks that fail are repeated like others; the first one in a row is logged as `failing`.
    """
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: nudged.set())
    away = False
    try:
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(poll()):
                    await nudged.wait()
            nudged.clear()
            if stop.is_set():
                return
            try:
                await look()
                away = False
            except Exception as error:
                if not away:
                    log.warning(failing, error=describe(error))
                away = True
    finally:
        stopping.cancel()
