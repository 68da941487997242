"""Redis: the second level, shared by all processes, and the way in which they hear of each other's saves."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import UUID

import redis.exceptions

from parley.context.v1 import context_pb2

from services.context.domain import Contact, Conversation
from services.context.memory import Memory
from services.context.ports import Key, Missed, MissedSaves, SealedContact, SealedConversation
from services.context.sealing import Sealing
from services.context.stats import Stats
from services.kernel.errors import ParleyError
from services.runtime.following import follow
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, Script, by_slot, subscription

log = get_logger(__name__)
Document = TypeVar("Document", Conversation, Contact)

PUT_IF_NEWER = (Path(__file__).parent / "put_if_newer.lua").read_text()
DROP_IF_SAME = (Path(__file__).parent / "drop_if_same.lua").read_text()
AWAY_SECONDS = 0.5
"""After a failure nobody asks Redis again for so long."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to hear of changes, at most."""
SILENCE_SECONDS = 2.0
"""A subscription that has not even answered a ping for so long is lost."""
HEAD = 64
"""Bytes by which a value is told from the one that replaced it: a seal's nonce is among them."""
LONGEST_VERSION = 19
TOMBSTONE = 60_000
"""Milliseconds for which a tombstone keeps out what was read before it."""
DRAIN = 500
"""Documents that are made up for at a time."""
DRAIN_SECONDS = 0.5
"""So long Redis may take to make up for a batch of saves that it missed: nobody waits for it, unlike for a call."""
OTHERS_SECONDS = 2.0
"""Time between two looks for saves that other processes could not tell Redis of."""
FAILURES = (redis.exceptions.RedisError, OSError, TimeoutError)


class Value(NamedTuple):
    """What Redis holds of a document; a tombstone has no data. `head`: how all of it begins."""

    version: int
    data: bytes
    head: bytes


class Entry(NamedTuple):
    """A document to put."""

    name: str
    version: int
    data: bytes


class RedisCache:
    """Implements `ports.Cache`. Redis away is a miss, never an error.

    What it misses is written down in Postgres, by whoever saved; until that is made up for, Redis is not believed, in
    this process or after its end in another.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        sealing: Sealing,
        conversations: Memory[Conversation],
        contacts: Memory[Contact],
        missed: MissedSaves,
        stats: Stats,
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
        self._missed = missed
        self._stats = stats
        self._timeout = timeout
        self._milliseconds = milliseconds
        self._away_until = 0.0
        self._complete = False
        """Redis holds nothing that is stale, as far as Postgres knows."""
        self._misses = 0
        self._noting = 0
        """Misses that are being written down."""
        self._listening = False
        self._looked = 0.0
        self._blind = False
        self._put = Script(client, PUT_IF_NEWER)
        self._drop = Script(client, DROP_IF_SAME)

    @property
    def trusted(self) -> bool:
        return self._listening and self._complete

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]:
        found = await self._read("d", keys)
        return await self._opened("d", found, self._sealing.open_conversation)

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]:
        found = await self._read("p", keys)
        # Of whom nothing was saved there is no version; any other value without data is a tombstone.
        nobody = {key: Contact() for key, value in found.items() if not value.data and value.version == 0}
        return nobody | await self._opened("p", found, self._sealing.open_contact)

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        announce: bool,
    ) -> None:
        entries = [Entry(_name("d", key), one.document.version, one.data) for key, one in conversations.items()]
        entries += [Entry(_name("p", key), one.document.version, one.data) for key, one in contacts.items()]
        missed = await self._write(entries, announce, self._milliseconds)
        if announce:
            await self._note(missed)

    async def drop(self, key: Key, version: int) -> None:
        await self._note(await self._write([Entry(_name("d", key), version + 1, b"")], True, TOMBSTONE))

    async def _note(self, missed: Sequence[Entry]) -> None:
        """Write down what Redis missed, before anybody is told that it is saved."""
        if not missed:
            return
        self._complete = False
        self._misses += 1
        self._noting += 1
        try:
            await self._missed.add([Missed(entry.name, entry.version) for entry in missed])
        finally:
            self._noting -= 1

    async def _read(self, kind: str, keys: Sequence[Key]) -> dict[Key, Value]:
        if not self._complete or self._away():
            return {}

        groups = by_slot(self._client, keys, lambda key: self._place(_name(kind, key)))

        async def read(group: Sequence[Key]) -> list[tuple[Key, object]]:
            values = await self._client.mget([self._place(_name(kind, key)) for key in group])
            return list(zip(group, values, strict=True))

        try:
            async with asyncio.timeout(self._timeout):
                answers = await asyncio.gather(*map(read, groups), return_exceptions=True)
        except TimeoutError as error:
            self._failed(error)
            return {}
        found = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                self._take_failure(answer)
                continue
            for key, value in answer:
                if not isinstance(value, bytes):
                    continue
                version, _, data = value.partition(b" ")
                if version.isdigit() and len(version) < LONGEST_VERSION:
                    found[key] = Value(int(version), data, value[:HEAD])
                else:
                    await self._unreadable(_name(kind, key), value[:HEAD], ValueError("it has no version"))
        return found

    async def _opened(
        self, kind: str, found: Mapping[Key, Value], opener: Callable[[str, UUID, bytes], Document]
    ) -> dict[Key, Document]:
        opened = {}
        for key, value in found.items():
            if not value.data:
                continue
            try:
                opened[key] = opener(key.tenant_id, key.id, value.data)
            except Exception as error:
                await self._unreadable(_name(kind, key), value.head, error)
        return opened

    async def _unreadable(self, name: str, head: bytes, error: Exception) -> None:
        """A value that does not open is a miss, and goes: whatever put it there, Postgres has the truth."""
        if not self._stats.unreadable[context_pb2.CACHE_LEVEL_REDIS]:
            log.warning("a value in Redis cannot be read; the next ones are only counted", error=describe(error))
        self._stats.unreadable[context_pb2.CACHE_LEVEL_REDIS] += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._drop(keys=[self._place(name)], args=[head])
        except FAILURES as failure:
            self._failed(failure)

    async def _write(self, entries: Sequence[Entry], announce: bool, milliseconds: int) -> list[Entry]:
        """Put documents where they are newer; those that Redis missed."""
        if self._away():
            return list(entries)
        groups = by_slot(self._client, entries, lambda entry: self._place(entry.name))

        async def write(group: Sequence[Entry]) -> None:
            async with asyncio.timeout(self._timeout):
                await self._write_group(group, announce, milliseconds)

        missed: list[Entry] = []
        answers = await asyncio.gather(*map(write, groups), return_exceptions=True)
        for group, answer in zip(groups, answers, strict=True):
            if answer is not None:
                self._take_failure(answer)
                missed += group
        return missed

    async def _write_group(self, group: Sequence[Entry], announce: bool, milliseconds: int) -> None:
        arguments: list[str | int | bytes] = [self._channel if announce else ""]
        for name, version, data in group:
            arguments += [version, milliseconds, data, name]
        await self._put(keys=[self._place(entry.name) for entry in group], args=arguments)

    def _place(self, name: str) -> str:
        """Where a document lies; it has a slot of its own in a cluster."""
        kind, _, key = name.partition(":")
        return f"{self._prefix}:context:{kind}:{{{key}}}"

    def _away(self) -> bool:
        return time.monotonic() < self._away_until

    def _take_failure(self, error: BaseException) -> None:
        if not isinstance(error, FAILURES):
            raise error
        self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._away():
            log.warning("redis is away; going on without it", error=describe(error))
            self._away_until = time.monotonic() + AWAY_SECONDS

    async def look(self) -> None:
        """Find out whether Redis has missed anything, before it is read for the first time."""
        self._complete = not await self._missed.saves(1)

    async def listen(self, stop: asyncio.Event) -> None:
        """Hear of other processes' saves until told to stop. Memory is believed only meanwhile."""
        await follow(stop, self._follow, name=self._channel, longest=LONGEST_PAUSE)

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
            self._listening = self._complete = False

    async def _take(self, message: Mapping[str, object], stands: Callable[[], None]) -> None:
        if message["type"] == "subscribe":
            self._away_until = 0.0
            await self._make_up()
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

    async def _make_up_in_time(self) -> None:
        """A Redis that was only slow has not broken the subscription: make up for what it missed as soon as it may be
        asked again, also for another process, which may have ended. What fails is left for the next time."""
        now = time.monotonic()
        if self._away() or (self._complete and now - self._looked < OTHERS_SECONDS):
            return
        self._looked = now
        try:
            await self._make_up()
            self._blind = False
        except FAILURES as error:
            self._failed(error)
        except ParleyError as error:
            if not self._blind:
                log.warning("nobody can tell what redis has missed", error=describe(error))
            self._blind = True

    async def _make_up(self) -> None:
        """Replace whatever Redis has missed by tombstones, and tell all processes."""
        while True:
            misses = self._misses
            some = await self._missed.saves(DRAIN)
            if not some:
                self._complete = misses == self._misses and not self._noting
                return
            self._complete = False
            entries = [Entry(name, version, b"") for name, version in some]
            async with asyncio.timeout(DRAIN_SECONDS):
                for group in by_slot(self._client, entries, lambda entry: self._place(entry.name)):
                    await self._write_group(group, True, TOMBSTONE)
            await self._missed.made_up(some)


def _name(kind: str, key: Key) -> str:
    """What names a document everywhere; `d` a conversation's (dialog), `p` a contact's (person)."""
    return f"{kind}:{key.tenant_id}/{key.id}"
