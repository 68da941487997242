"""Reads through the three levels that documents are kept in: memory, Redis, Postgres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from parley.context.v1 import context_pb2

from services.context.domain.documents import Contact, Conversation
from services.context.ports import Cache, Hearers, Key, SealedContact, SealedConversation, Store
from services.context.usecases.memory import Memory
from services.context.usecases.statistics import Stats
from services.kernel.errors import ParleyError

Document = TypeVar("Document")
Sealed = TypeVar("Sealed", SealedConversation, SealedContact)

NOTHING_SAVED = SealedContact(Contact(), b"")


@dataclass
class Found(Generic[Document]):
    """The result of a read: documents, and failures by key. Nothing was ever saved under a key that is in neither."""

    documents: dict[Key, Document] = field(default_factory=dict)
    failed: dict[Key, ParleyError] = field(default_factory=dict)
    levels: dict[Key, "context_pb2.CacheLevel.ValueType"] = field(default_factory=dict)


@dataclass
class CacheLevels:
    """Takes each document from the first level that has it, and fills the levels above.

    A key that cannot be read fails alone; all others are answered.
    """

    store: Store
    cache: Cache
    memory: Memory[Conversation]
    contact_memory: Memory[Contact]
    stats: Stats = field(default_factory=Stats)

    async def load(self, least: Mapping[Key, int]) -> Found[Conversation]:
        """Returns the conversations that exist, in at least the version asked for, and the level of each."""
        found = Found[Conversation]()
        for key, version in least.items():
            kept = self.memory.get(key)
            if kept is not None and kept[0] >= version:
                found.documents[key] = kept[1]
        if found.documents and not self.cache.trusted:
            await self._believe(found.documents)
        self.stats.count(context_pb2.CACHE_LEVEL_MEMORY, len(found.documents), len(least) - len(found.documents))
        found.levels.update(dict.fromkeys(found.documents, context_pb2.CACHE_LEVEL_MEMORY))
        missing = [key for key in least if key not in found.documents]
        since = self.memory.mark()
        if missing:
            cached = await self.cache.conversations(missing)
            good = {key: document for key, document in cached.items() if document.version >= least[key]}
            self.stats.count(context_pb2.CACHE_LEVEL_REDIS, len(good), len(missing) - len(good))
            self._keep(good, since, found, context_pb2.CACHE_LEVEL_REDIS)
            missing = [key for key in missing if key not in good]
        if missing:
            await self._load_stored(missing, since, found)
        return found

    async def _load_stored(self, missing: Sequence[Key], since: int, found: Found[Conversation]) -> None:
        try:
            stored = await self.store.conversations(missing)
        except ParleyError as error:
            found.failed.update(dict.fromkeys(missing, error))
            return
        good, failed = split(stored)
        self.stats.count(context_pb2.CACHE_LEVEL_POSTGRES, len(good), len(missing) - len(good))
        found.failed.update(failed)
        fresh = {key: sealed.document for key, sealed in good.items()}
        self._keep(fresh, since, found, context_pb2.CACHE_LEVEL_POSTGRES)
        await self.cache.put({key: one for key, one in good.items() if one.data}, {}, tell=Hearers.NOBODY)

    def _keep(
        self,
        documents: Mapping[Key, Conversation],
        since: int,
        found: Found[Conversation],
        level: "context_pb2.CacheLevel.ValueType",
    ) -> None:
        for key, document in documents.items():
            found.documents[key] = document
            found.levels[key] = level
            self.memory.put(key, document.version, document, since)

    async def _believe(self, found: dict[Key, Conversation]) -> None:
        """Drops what is out of date: without invalidations, memory is compared with the versions in Postgres.

        While Postgres is away too, memory is all there is, and is believed.
        """
        try:
            versions = await self.store.versions(list(found))
        except ParleyError:
            return
        for key in [key for key, document in found.items() if versions.get(key, 0) != document.version]:
            del found[key]
            self.memory.drop(key)

    async def load_contacts(self, keys: Sequence[Key]) -> Found[Contact]:
        """Returns the documents of contacts; an empty one for a contact of whom nothing was saved."""
        found = Found[Contact]()
        trusted = self.cache.trusted
        for key in keys:
            kept = self.contact_memory.get(key) if trusted else None
            if kept is not None:
                found.documents[key] = kept[1]
        missing = [key for key in keys if key not in found.documents]
        if not missing:
            return found
        since = self.contact_memory.mark()
        fresh = dict(await self.cache.contacts(missing))
        absent = [key for key in missing if key not in fresh]
        if absent:
            fresh |= await self._load_stored_contacts(absent, found)
        for key, document in fresh.items():
            self.contact_memory.put(key, document.version, document, since)
        found.documents |= fresh
        return found

    async def _load_stored_contacts(self, absent: Sequence[Key], found: Found[Contact]) -> dict[Key, Contact]:
        try:
            stored = await self.store.contacts(absent)
        except ParleyError as error:
            # As in `_believe`: memory may be out of date, but it is all there is.
            for key in absent:
                kept = self.contact_memory.get(key)
                if kept is None:
                    found.failed[key] = error
                else:
                    found.documents[key] = kept[1]
            return {}
        good, failed = split({key: stored.get(key, NOTHING_SAVED) for key in absent})
        found.failed.update(failed)
        await self.cache.put({}, good, tell=Hearers.NOBODY)
        return {key: one.document for key, one in good.items()}


def split(found: Mapping[Key, Sealed | ParleyError]) -> tuple[dict[Key, Sealed], dict[Key, ParleyError]]:
    """Separates what could be read from what could not."""
    good: dict[Key, Sealed] = {}
    failed: dict[Key, ParleyError] = {}
    for key, one in found.items():
        if isinstance(one, ParleyError):
            failed[key] = one
        else:
            good[key] = one
    return good, failed
