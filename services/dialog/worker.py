"""Wakes the workers of dialog processes."""

import asyncio

from services.dialog.turns import Claimed
from services.runtime.lanes import Dispatcher
from services.runtime.wakeups import Wakeups


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
