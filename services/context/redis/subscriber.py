"""Learns of the saves of other processes, and tells Redis of saves that it has missed."""

import asyncio
import time
from collections.abc import Callable, Mapping

import redis.exceptions

from services.context.domain.documents import Contact, Conversation
from services.context.ports import Key
from services.context.redis.cache import RedisCache
from services.context.redis.state import FAILURES, RedisState
from services.context.usecases.memory import Memory
from services.kernel.errors import ParleyError
from services.runtime import context_changes
from services.runtime.background import following
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, subscription

log = get_logger(__name__)

LONGEST_PAUSE = 2.0
"""The longest time, in seconds, between two tries to subscribe."""
SILENCE_SECONDS = 2.0
"""A subscription that has answered nothing for this long, not even a ping, is lost."""
DRAIN = 500
"""The number of missed saves that are made up for at a time."""
DRAIN_SECONDS = 0.5
"""The time that Redis may take for some of them. It is long because no caller waits for it."""
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
        self.listen = following(self._channel, self._follow, longest=LONGEST_PAUSE)
        self._looked = 0.0
        self._blind = False

    async def beat(self) -> None:
        """Tells the processes that keep what lanes have read that they would be told of changes."""
        if not self._state.away:
            await self._client.publish(self._beside_lanes, context_changes.HEARTBEAT)

    async def _follow(self, stands: Callable[[], None]) -> None:
        try:
            async with await subscription(self._client) as pubsub:
                await pubsub.subscribe(self._channel)
                heard = asked = time.monotonic()
                while True:
                    message = await pubsub.get_message(timeout=0.5)
                    now = time.monotonic()
                    if message is not None:
                        heard = now
                        await self._take(message, stands)
                    await self._make_up_in_time()
                    if now - heard > SILENCE_SECONDS:
                        raise redis.exceptions.ConnectionError("the subscription is silent")
                    if now - asked > SILENCE_SECONDS / 2:
                        asked = now
                        await pubsub.ping()
        finally:
            self._state.listening = self._state.complete = False

    async def _take(self, message: Mapping[str, object], stands: Callable[[], None]) -> None:
        if message["type"] == "subscribe":
            self._state.answers()
            await self._make_up()
            for memory in self._memories.values():
                memory.clear()
            self._state.listening = True
            stands()
        elif message["type"] == "message" and isinstance(message["data"], bytes):
            for line in context_changes.lines(message["data"]):
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        """Takes one announcement. One that makes no sense is skipped: anybody can publish in a shared Redis."""
        try:
            kind, tenant_id, identifier, version = context_changes.parse(line)
        except ValueError as error:
            log.warning("a change is not understood", channel=self._channel, error=describe(error))
        else:
            self._memories[kind].drop(Key(tenant_id, identifier), below=version)

    async def _make_up_in_time(self) -> None:
        """Tells Redis of missed saves as soon as it can be asked again; those of other processes too, which may have
        ended. A Redis that was merely slow has not broken the subscription, so nothing else would do it. What fails is
        tried again the next time."""
        now = time.monotonic()
        if self._state.away or (self._state.complete and now - self._looked < OTHERS_SECONDS):
            return
        self._looked = now
        try:
            await self._make_up()
            self._blind = False
        except FAILURES as error:
            self._state.failed(error)
        except ParleyError as error:
            if not self._blind:
                log.warning("nobody can tell what redis has missed", error=describe(error))
            self._blind = True

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
