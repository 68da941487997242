"""Makes what waits for a channel due, when the channel can send again."""

import asyncio
from collections.abc import Awaitable, Callable

from services.delivery.domain.channels import Channel
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.mirror import Event
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

SETTLED = 1.0
"""Seconds within which a worker that saw the channel as it was has put its lane off."""


class Releases:
    """Listens to channels that change or recover."""

    def __init__(self, gates: Gates, due_now: Callable[[int], Awaitable[int]], wake: Callable[[], None]) -> None:
        """`due_now` makes the lanes of a channel due and returns how many; `wake` lets them be claimed."""
        self._gates = gates
        self._due_now = due_now
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, event: Event) -> None:
        """A channel is new, different or gone. What was learnt of it before is forgotten."""
        self._gates.forget(event.key)
        if not isinstance(event, Channel) or event.sends:
            self._begin(self._release(event.key))

    def recovered(self, key: int) -> None:
        """The provider answers again."""
        self._begin(self._release(key))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, key: int) -> None:
        for pause in (0.0, SETTLED):
            await asyncio.sleep(pause)
            try:
                if await self._due_now(key):
                    self._wake()
            except Exception as error:
                log.warning(
                    "waiting parts cannot be made due now; they are when their time comes", error=describe(error)
                )

    async def close(self) -> None:
        """Ends what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
