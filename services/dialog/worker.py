"""The background work of a dialog process: turns, and tidying up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.dialog.turns import Claimed
from services.runtime.lanes import Dispatcher
from services.runtime.logs import describe, get_logger
from services.runtime.wakeups import Wakeups

log = get_logger(__name__)


class Waker:
    """Tells workers that something waits: those of this process, and when they are all busy, the others."""

    def __init__(self, wakeups: Wakeups, workers: int) -> None:
        self._wakeups = wakeups
        self._workers = workers
        self._dispatcher: Dispatcher[Claimed] | None = None

    def attach(self, dispatcher: Dispatcher[Claimed]) -> None:
        self._dispatcher = dispatcher

    def wake(self) -> None:
        """Something is due now."""
        if self._dispatcher is not None:
            self._dispatcher.wake()
            if self._dispatcher.running < self._workers:
                return
        self._wakeups.publish()

    def wake_later(self, seconds: float) -> None:
        """Something of this process's own is due after so many seconds; the others would find it by polling."""
        if self._dispatcher is not None:
            self._dispatcher.wake(seconds)

    async def listen(self, stop: asyncio.Event) -> None:
        """Hear other processes."""

        def heard(_: object = None) -> None:
            if self._dispatcher is not None:
                self._dispatcher.wake()

        await self._wakeups.listen(stop, heard, heard)


def repeatedly(
    name: str, work: Callable[[], Awaitable[object]], *, every: float, soon: float = 0.05
) -> Callable[[asyncio.Event], Awaitable[None]]:
    """Background work that runs now and then: soon again while it returns something true, else after `every` seconds.
    A failure waits for the next time."""

    async def run(stop: asyncio.Event) -> None:
        while not stop.is_set():
            more: object = False
            try:
                more = await work()
            except Exception as error:
                log.warning("tidying failed", task=name, error=describe(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), soon if more else every)

    return run
