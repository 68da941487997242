"""What a chat shows beside its messages: that somebody types, or a preview of what comes.

It is worth something for a few seconds only, so none of it is stored or tried again, and it never stands in the way of
a reply: a channel has one such call under way, a process a few, and what they cannot carry is dropped and counted.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from services.delivery.domain.channels import Channel
from services.delivery.providers.base import Signal
from services.delivery.usecases.ports import Channels
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

AT_ONCE = 8
"""Channels that one process signals to at a time."""
WAITING = 20
"""Chats of a channel whose signals wait; a later signal of a chat takes the place of the earlier one."""
LASTS = 5.0
"""Seconds after which a signal that still waits says nothing any more."""
PATIENCE = 2.0
"""Seconds that a provider has to take one."""
PAUSE = 0.2
"""Seconds between two signals of a channel, so that they use little of its rate."""
SPARED = 10.0
"""Seconds for which a channel gets no signals after its provider was slow or has refused one."""


class Signals:
    """Takes signals in and makes their calls, as long as there is room."""

    def __init__(
        self,
        channels: Channels,
        send: Callable[[Signal, Channel], Awaitable[bool]],
        *,
        shows: Callable[[Channel], bool],
        is_open: Callable[[int], bool],
        busy: Callable[[], bool],
        time: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`send` makes the provider's call and returns whether it was taken; `shows`: whether the provider has signals.

        `is_open`: whether replies may go out by a channel, by its key. `busy`: whether replies wait for a place here.
        """
        self.outcomes: Counter[str] = Counter()
        """How many since the start were `sent`, or dropped for which reason."""
        self._channels, self._send = channels, send
        self._shows, self._is_open, self._busy, self._time = shows, is_open, busy, time
        self._waiting: dict[int, dict[str, tuple[float, Signal]]] = {}
        self._spared: TTLCache[int, None] = TTLCache(maxsize=1000, ttl=SPARED, timer=time)
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, channel: Channel | None, signal: Signal) -> bool:
        """Takes a signal in, or drops it and returns False. Waits for nothing."""
        obstacle = self._obstacle(channel)
        if channel is None or obstacle:
            return self._drop(obstacle)
        waiting = self._waiting.get(channel.key)
        if waiting is None:
            if len(self._waiting) >= AT_ONCE:
                return self._drop("crowded")
            waiting = self._waiting[channel.key] = {}
            task = asyncio.create_task(self._work(channel.key, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if waiting.pop(signal.chat_id, None) is not None:
            self._drop("replaced")
        elif len(waiting) >= WAITING:
            return self._drop("crowded")
        waiting[signal.chat_id] = (self._time(), signal)
        return True

    async def close(self) -> None:
        """Drops what waits."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _obstacle(self, channel: Channel | None) -> str:
        """Why nothing is signalled to a channel now; empty when it may be."""
        if channel is None or not channel.sends:
            return "off"
        if not self._shows(channel):
            return "unsupported"
        if channel.key in self._spared or not self._is_open(channel.key):
            return "spared"
        return "busy" if self._busy() else ""

    def _drop(self, reason: str) -> bool:
        self.outcomes[reason] += 1
        return False

    async def _work(self, key: int, waiting: dict[str, tuple[float, Signal]]) -> None:
        try:
            while waiting:
                since, signal = waiting.pop(next(iter(waiting)))
                channel = self._channels.by_key(key)
                obstacle = self._obstacle(channel) or ("late" if self._time() - since > LASTS else "")
                if channel is None or obstacle:
                    self._drop(obstacle)
                    continue
                if await self._call(signal, channel):
                    self.outcomes["sent"] += 1
                else:
                    self._spared[key] = None
                    self._drop("failed")
                await asyncio.sleep(PAUSE)
        finally:
            del self._waiting[key]

    async def _call(self, signal: Signal, channel: Channel) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._send(signal, channel)
        except Exception as error:
            log.info("a signal was not taken", channel_id=channel.channel_id, error=describe(error))
            return False
