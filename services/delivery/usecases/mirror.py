"""All channels in the memory of a process, kept up to date."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from services.delivery.domain.channels import Channel, Deleted
from services.runtime.background import nudged

Event = Channel | Deleted


class ChangeLog(Protocol):
    """Where the channels stand."""

    async def changes(self, since: int) -> Sequence[tuple[int, Event]]:
        """What has changed above a revision, each with its own, in their order."""


class ChannelMirror:
    """Reads what has changed when nudged, and now and then in case a nudge was lost."""

    def __init__(self, store: ChangeLog, *, poll: Callable[[], float] = lambda: 1.0) -> None:
        """`poll`: seconds until the next look, asked each time."""
        self._store = store
        self._revision = 0
        self._by_id: dict[str, Channel] = {}
        self._by_key: dict[int, Channel] = {}
        self._nudged = asyncio.Event()
        failing = "channels cannot be read; going on with those known"
        self.run = nudged("channels", self.refresh, self._nudged, poll=poll, failing=failing)
        self._refreshing: asyncio.Task[None] | None = None
        self._listeners: set[Callable[[Event], None]] = set()

    def by_id(self, channel_id: str) -> Channel | None:
        return self._by_id.get(channel_id)

    def by_key(self, key: int) -> Channel | None:
        return self._by_key.get(key)

    def nudge(self) -> None:
        """Something may have changed."""
        self._nudged.set()

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """`listener` hears of each change from now on; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def refresh(self) -> None:
        """Returns when everything that was committed before the call is known. Callers share a query."""
        running = self._refreshing
        if running is not None and not running.done():
            # It may have looked before our caller's change: wait for it, then look again.
            with suppress(Exception):
                await asyncio.shield(running)
        if self._refreshing is running or self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read())
        await asyncio.shield(self._refreshing)

    async def watch(self) -> AsyncIterator[Sequence[Event] | None]:
        """All channels, then None, then changes as they come. A slow reader gets only the latest of a channel."""
        changed: dict[str, Event] = {}
        news = asyncio.Event()

        def heard(event: Event) -> None:
            changed.pop(event.channel_id, None)
            changed[event.channel_id] = event
            news.set()

        unsubscribe = self.subscribe(heard)
        try:
            yield list(self._by_id.values())
            yield None
            while True:
                await news.wait()
                news.clear()
                events = list(changed.values())
                changed.clear()
                yield events
        finally:
            unsubscribe()

    async def _read(self) -> None:
        for revision, event in await self._store.changes(self._revision):
            self._apply(event)
            self._revision = revision
            for listener in list(self._listeners):
                listener(event)

    def _apply(self, event: Event) -> None:
        if isinstance(event, Channel):
            self._by_id[event.channel_id] = event
            self._by_key[event.key] = event
            return
        self._by_key.pop(event.key, None)
        known = self._by_id.get(event.channel_id)
        if known is not None and known.key == event.key:
            del self._by_id[event.channel_id]
