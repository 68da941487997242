"""Redis: the second level, shared by all processes, and the way in which they hear of each other's saves."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from uuid import UUID

import redis.asyncio
import redis.exceptions

from services.context.domain import Contact, Conversation
from services.context.memory import Memory
from services.context.ports import Key, SealedContact, SealedConversation
from services.context.sealing import Sealing
from services.runtime.following import follow
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

PUT_IF_NEWER = (Path(__file__).parent / "put_if_newer.lua").read_text()
AWAY_SECONDS = 0.5
"""After a failure nobody asks Redis again for so long."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to hear of changes, at most."""
SILENCE_SECONDS = 2.0
"""A subscription that has not even answered a ping for so long is lost."""
DIRTY_MOST = 100_000
DRAIN_SECONDS = 0.5
"""So long Redis may take to make up for a batch of saves that it missed: nobody waits for it, unlike for a call."""
FAILURES = (redis.exceptions.RedisError, OSError, TimeoutError)


class RedisCache:
    """Implements `ports.Cache`. Redis away is a miss, never an error; what it missed is dropped when it is back."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        prefix: str,
        sealing: Sealing,
        conversations: Memory[Conversation],
        contacts: Memory[Contact],
        *,
        timeout: float,
        milliseconds: int,
    ) -> None:
        """`timeout` is in seconds; `milliseconds` is how long a document is kept at most."""
        self._client = client
        self._prefix = prefix
        self._channel = f"{prefix}:context:changed"
        self._sealing = sealing
        self._memories: dict[str, Memory[Conversation] | Memory[Contact]] = {
            "d": conversations,
            "p": contacts,
        }
        self._timeout = timeout
        self._milliseconds = milliseconds
        self._away_until = 0.0
        self._dirty: dict[str, int] = {}
        """Versions by the names of documents whose save or drop Redis missed, and with it everybody else."""
        self._listening = False
        self._put = client.register_script(PUT_IF_NEWER)

    @property
    def trusted(self) -> bool:
        return self._listening

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]:
        found = await self._read("d", keys)
        return {
            key: self._sealing.open_conversation(key.tenant_id, key.id, data) for key, data in found.items() if data
        }

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]:
        found = await self._read("p", keys)
        return {
            key: self._sealing.open_contact(key.tenant_id, key.id, data) if data else Contact()
            for key, data in found.items()
        }

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        announce: bool,
    ) -> None:
        entries = [(_name("d", key), one.document.version, one.data) for key, one in conversations.items()]
        entries += [(_name("p", key), one.document.version, one.data) for key, one in contacts.items()]
        if entries:
            await self._write(entries, announce)

    async def drop(self, key: Key, version: int) -> None:
        await self._write([(_name("d", key), version + 1, b"")], announce=True, milliseconds=60_000)

    async def _read(self, kind: str, keys: Sequence[Key]) -> dict[Key, bytes]:
        if not keys or self._away():
            return {}
        try:
            async with asyncio.timeout(self._timeout):
                values = await self._client.mget([self._place(_name(kind, key)) for key in keys])
        except FAILURES as error:
            self._failed(error)
            return {}
        return {
            key: value.partition(b" ")[2] for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)
        }

    async def _write(
        self, entries: Sequence[tuple[str, int, bytes]], announce: bool, milliseconds: int | None = None
    ) -> None:
        names = [self._place(name) for name, _, _ in entries]
        arguments: list[str | int | bytes] = [self._channel if announce else ""]
        for name, version, data in entries:
            arguments += [version, milliseconds or self._milliseconds, data, name]
        try:
            if self._away():
                raise redis.exceptions.ConnectionError("away")
            async with asyncio.timeout(self._timeout):
                await self._put(keys=names, args=arguments)
        except FAILURES as error:
            self._failed(error)
            if announce and len(self._dirty) < DIRTY_MOST:
                for name, version, _ in entries:
                    self._dirty[name] = max(version, self._dirty.get(name, 0))

    def _place(self, name: str) -> str:
        return f"{self._prefix}:context:{name}"

    def _away(self) -> bool:
        return time.monotonic() < self._away_until

    def _failed(self, error: Exception) -> None:
        if not self._away():
            log.warning("redis is away; going on without it", error=type(error).__name__)
            self._away_until = time.monotonic() + AWAY_SECONDS

    async def listen(self, stop: asyncio.Event) -> None:
        """Hear of other processes' saves until told to stop. Memory is believed only meanwhile."""
        await follow(stop, self._follow, name=self._channel, longest=LONGEST_PAUSE)

    async def _follow(self, stands: Callable[[], None]) -> None:
        try:
            async with self._client.pubsub() as pubsub:
                await pubsub.subscribe(self._channel)
                heard = asked = time.monotonic()
                while True:
                    message = await pubsub.get_message(timeout=0.5)
                    now = time.monotonic()
                    if message is not None:
                        heard = now
                        await self._take(message, stands)
                    await self._make_up()
                    if now - heard > SILENCE_SECONDS:
                        raise redis.exceptions.ConnectionError("the subscription is silent")
                    if now - asked > SILENCE_SECONDS / 2:
                        asked = now
                        await pubsub.ping()
        finally:
            self._listening = False

    async def _take(self, message: Mapping[str, object], stands: Callable[[], None]) -> None:
        if message["type"] == "subscribe":
            await self._clean()
            for memory in self._memories.values():
                memory.clear()
            self._listening = True
            stands()
        elif message["type"] == "message" and isinstance(message["data"], bytes):
            self._hear(message["data"])

    def _hear(self, publication: bytes) -> None:
        """Anybody may publish in a Redis that is shared: what nobody understands is left out."""
        try:
            version, _, name = publication.decode().partition(" ")
            kind, _, key = name.partition(":")
            tenant_id, _, identifier = key.partition("/")
            self._memories[kind].drop(Key(tenant_id, UUID(identifier)), below=int(version))
        except (ValueError, KeyError) as error:
            log.warning("a change is not understood", channel=self._channel, error=describe(error))

    async def _clean(self) -> None:
        """Redis is back: make up for all that it missed."""
        self._away_until = 0.0
        while self._dirty:
            await self._drain()

    async def _make_up(self) -> None:
        """A Redis that was only slow has not broken the subscription: make up for what it missed as soon as it may be
        asked again. What fails is left for the next time."""
        if not self._dirty or self._away():
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._drain()
        except FAILURES as error:
            self._failed(error)

    async def _drain(self) -> None:
        """Drop what Redis holds of some documents whose save it missed, and tell all processes."""
        some = list(islice(self._dirty.items(), 1000))
        async with self._client.pipeline(transaction=False) as pipeline:
            # A pipeline queues commands; nothing is there to be awaited yet.
            pipeline.delete(*(self._place(name) for name, _ in some))  # type: ignore[unused-awaitable]
            for name, version in some:
                pipeline.publish(self._channel, f"{version} {name}")  # type: ignore[unused-awaitable]
            await pipeline.execute()
        for name, version in some:
            if self._dirty[name] == version:  # else a later save was missed meanwhile
                del self._dirty[name]


def _name(kind: str, key: Key) -> str:
    """The part of a Redis key that names a document; `d` a conversation's (dialog), `p` a contact's (person)."""
    return f"{kind}:{key.tenant_id}/{key.id}"
