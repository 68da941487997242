"""The second cache level: Redis, shared by all processes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import UUID

from parley.context.v1 import context_pb2

from services.context.domain.documents import Contact, Conversation
from services.context.ports import Hearers, Key, Missed, SealedContact, SealedConversation
from services.context.redis.state import FAILURES, RedisState
from services.context.sealing import Sealing
from services.context.usecases.statistics import Stats
from services.runtime.context_changes import CONTACT, CONVERSATION, beside_lanes, every_save, name_of
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, Script, by_slot

log = get_logger(__name__)
Document = TypeVar("Document", Conversation, Contact)
T = TypeVar("T")
Result = TypeVar("Result")

PUT_IF_NEWER = (Path(__file__).parent / "put_if_newer.lua").read_text()
DROP_IF_SAME = (Path(__file__).parent / "drop_if_same.lua").read_text()
HEAD = 64
"""The first bytes of a value, which tell it from the one that replaced it: they include the seal's nonce."""
LONGEST_VERSION = 19
TOMBSTONE = 60_000
"""Milliseconds for which a tombstone keeps older documents out."""


class Value(NamedTuple):
    """A document in Redis. A tombstone has no data. `head` is the beginning of the whole value."""

    version: int
    data: bytes
    head: bytes


class Entry(NamedTuple):
    """A document that is to be put."""

    name: str
    version: int
    data: bytes


class RedisCache:
    """Implements `ports.Cache`. While Redis is away every read is a miss, never an error."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        sealing: Sealing,
        state: RedisState,
        stats: Stats,
        *,
        timeout: float,
        milliseconds: int,
    ) -> None:
        """`timeout` is in seconds. `milliseconds` is the longest time for which a document is kept."""
        self._client = client
        self._prefix = prefix
        self._channels = {
            Hearers.NOBODY: ("", ""),
            Hearers.PROCESSES: (every_save(prefix), ""),
            Hearers.ALL: (every_save(prefix), beside_lanes(prefix)),
        }
        self._sealing = sealing
        self._state = state
        self._stats = stats
        self._timeout = timeout
        self._milliseconds = milliseconds
        self._put = Script(client, PUT_IF_NEWER)
        self._drop = Script(client, DROP_IF_SAME)

    @property
    def trusted(self) -> bool:
        return self._state.listening and self._state.complete

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]:
        found = await self._read(CONVERSATION, keys)
        return await self._opened(CONVERSATION, found, self._sealing.open_conversation)

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]:
        found = await self._read(CONTACT, keys)
        # Version 0 without data: nothing was saved of the contact. Any other value without data is a tombstone.
        nobody = {key: Contact() for key, value in found.items() if not value.data and value.version == 0}
        return nobody | await self._opened(CONTACT, found, self._sealing.open_contact)

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        tell: Hearers,
    ) -> None:
        entries = [
            Entry(_name(CONVERSATION, key), one.document.version, one.data) for key, one in conversations.items()
        ]
        entries += [Entry(_name(CONTACT, key), one.document.version, one.data) for key, one in contacts.items()]
        missed = await self._write(entries, tell, self._milliseconds)
        if tell is not Hearers.NOBODY:
            await self._state.note([Missed(entry.name, entry.version) for entry in missed])

    async def drop(self, key: Key, version: int) -> None:
        missed = await self._write([Entry(_name(CONVERSATION, key), version + 1, b"")], Hearers.ALL, TOMBSTONE)
        await self._state.note([Missed(entry.name, entry.version) for entry in missed])

    async def bury(self, missed: Sequence[Missed]) -> None:
        """Replaces documents whose save Redis has missed by tombstones, and tells all processes.

        Raises if Redis is away.
        """
        entries = [Entry(name, version, b"") for name, version in missed]
        for group in by_slot(self._client, entries, lambda entry: self._place(entry.name)):
            await self._write_group(group, Hearers.ALL, TOMBSTONE)

    async def _read(self, kind: str, keys: Sequence[Key]) -> dict[Key, Value]:
        if not self._state.complete or self._state.away:
            return {}

        groups = by_slot(self._client, keys, lambda key: self._place(_name(kind, key)))

        async def read(group: Sequence[Key]) -> list[tuple[Key, object]]:
            async with asyncio.timeout(self._timeout):
                values = await self._client.mget([self._place(_name(kind, key)) for key in group])
            return list(zip(group, values, strict=True))

        answers = await _of_each(groups, read)
        found = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                self._state.failed(answer)
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
        """Deletes a value that cannot be opened and counts it as a miss: Postgres has the truth."""
        if not self._stats.unreadable[context_pb2.CACHE_LEVEL_REDIS]:
            log.warning("a value in Redis cannot be read; the next ones are only counted", error=describe(error))
        self._stats.unreadable[context_pb2.CACHE_LEVEL_REDIS] += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._drop(keys=[self._place(name)], args=[head])
        except FAILURES as failure:
            self._state.failed(failure)

    async def _write(self, entries: Sequence[Entry], tell: Hearers, milliseconds: int) -> list[Entry]:
        """Puts documents that are newer; returns those that Redis missed."""
        if self._state.away:
            return list(entries)
        groups = by_slot(self._client, entries, lambda entry: self._place(entry.name))

        async def write(group: Sequence[Entry]) -> None:
            async with asyncio.timeout(self._timeout):
                await self._write_group(group, tell, milliseconds)

        missed: list[Entry] = []
        answers = await _of_each(groups, write)
        for group, answer in zip(groups, answers, strict=True):
            if answer is not None:
                self._state.failed(answer)
                missed += group
        return missed

    async def _write_group(self, group: Sequence[Entry], tell: Hearers, milliseconds: int) -> None:
        arguments: list[str | int | bytes] = list(self._channels[tell])
        for name, version, data in group:
            arguments += [version, milliseconds, data, name]
        await self._put(keys=[self._place(entry.name) for entry in group], args=arguments)

    def _place(self, name: str) -> str:
        """Returns the key of a document. Each has a slot of its own in a cluster."""
        kind, _, key = name.partition(":")
        return f"{self._prefix}:context:{kind}:{{{key}}}"


async def _of_each(
    groups: Sequence[Sequence[T]], call: Callable[[Sequence[T]], Awaitable[Result]]
) -> Sequence[Result | BaseException]:
    """Returns the result or failure of each group. Outside a cluster there is one, which needs no task."""
    if len(groups) != 1:
        return await asyncio.gather(*map(call, groups), return_exceptions=True)
    try:
        return [await call(groups[0])]
    except Exception as error:
        return [error]


def _name(kind: str, key: Key) -> str:
    return name_of(kind, key.tenant_id, key.id)
