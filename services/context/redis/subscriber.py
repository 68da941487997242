"""Learns of the saves of other processes, and tells Redis of saves that it has missed."""

import asyncio
import time
from collections.abc import Callable

from services.context.domain.documents import Contact, Conversation
from services.context.ports import Key
from services.context.redis.cache import RedisCache
from services.context.redis.state import FAILURES, RedisState
from services.context.usecases.memory import Memory
from services.runtime import context_changes
from services.runtime.background import following, nudged
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, hear

log = get_logger(__name__)

LONGEST_PAUSE = 2.0
"""The longest time, in seconds, between two tries to subscribe."""
SILENCE_SECONDS = 2.0
"""A subscription that has answered nothing for this long, not even a ping, is lost."""
DRAIN = 500
"""The number of missed saves that are made up for at a time."""
DRAIN_SECONDS = 0.5
"""The time that Redis may take for some of them. It is long because no caller waits for it."""
LOOK_EVERY = 0.5
"""Seconds between two looks whether there is something to make up for."""
OTHERS_SECONDS = 2.0
"""Time between two looks for saves that Redis has missed from other processes."""


class Subscriber:
    """Drops from memory what other processes have saved. Memory is believed only while this listens."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        cache: RedisCache,
        state: RedisState,
        conversations: Memory[Conversation],
        contacts: Memory[Contact],
    ) -> None:
        self._client = client
        self._channel = context_changes.every_save(prefix)
        self._cache = cache
        self._state = state
        self._beside_lanes = context_changes.beside_lanes(prefix)
        self._memories: dict[str, Memory[Conversation] | Memory[Contact]] = {
            context_changes.CONVERSATION: conversations,
            context_changes.CONTACT: contacts,
        }
        self._stands = asyncio.Event()
        self.listen = following(self._channel, self._follow, longest=LONGEST_PAUSE)
        failing = "nobody can tell what redis has missed"
        self.make_up = nudged("missed saves", self._look, self._stands, poll=lambda: LOOK_EVERY, failing=failing)
        self._looked = 0.0

    async def beat(self) -> None:
        """Tells the processes that keep what lanes have read that they would be told of changes."""
        if not self._state.away:
            await self._client.publish(self._beside_lanes, context_changes.HEARTBEAT)

    async def _follow(self, stands: Callable[[], None]) -> None:
        def begun() -> None:
            self._state.answers()
            for memory in self._memories.values():
                memory.clear()
            self._state.listening = True
            self._stands.set()
            stands()

        def ended() -> None:
            self._state.listening = self._state.complete = False

        await hear(self._client, self._channel, quiet=SILENCE_SECONDS / 2, stands=begun, heard=self._take, ended=ended)

    def _take(self, publication: bytes) -> None:
        for line in context_changes.lines(publication):
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        """Takes one announcement. One that makes no sense is skipped: anybody can publish in a shared Redis."""
        try:
            kind, tenant_id, identifier, version = context_changes.parse(line)
        except ValueError as error:
            log.warning("a change is not understood", channel=self._channel, error=describe(error))
        else:
            self._memories[kind].drop(Key(tenant_id, identifier), below=version)

    async def _look(self) -> None:
        """Tells Redis of missed saves as soon as it can be asked again; those of other processes too, which may have
        ended. A Redis that was merely slow has not broken the subscription, so nothing else would do it.
        """
        now, state = time.monotonic(), self._state
        if not state.listening or state.away or (state.complete and now - self._looked < OTHERS_SECONDS):
            return
        self._looked = now
        try:
            await self._make_up()
        except FAILURES as error:
            state.failed(error)

    async def _make_up(self) -> None:
        """Tells Redis and all processes of everything that Redis has missed."""
        while True:
            misses = self._state.misses
            some = await self._state.missed.saves(DRAIN)
            if not some:
                self._state.made_up(misses)
                return
            self._state.complete = False
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._cache.bury(some)
            await self._state.missed.made_up(some)
