"""The three levels that answer a read: memory, Redis, Postgres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parley.context.v1 import context_pb2

from services.context.domain import Contact, Conversation
from services.context.memory import Memory
from services.context.ports import Cache, Key, SealedContact, Store
from services.context.stats import Stats
from services.kernel.errors import ParleyError

NOTHING_SAVED = SealedContact(Contact(), b"")


@dataclass
class Levels:
    """Finds documents in the first level that has them, and fills the levels before it."""

    store: Store
    cache: Cache
    memory: Memory[Conversation]
    contact_memory: Memory[Contact]
    stats: Stats = field(default_factory=Stats)

    async def load(
        self, least: Mapping[Key, int]
    ) -> tuple[dict[Key, Conversation], dict[Key, "context_pb2.CacheLevel.ValueType"]]:
        """The conversations that exist, each at least of the version asked for, and where it was found."""
        found: dict[Key, Conversation] = {}
        levels: dict[Key, context_pb2.CacheLevel.ValueType] = {}
        for key, version in least.items():
            kept = self.memory.get(key)
            if kept is not None and kept[0] >= version:
                found[key] = kept[1]
        if found and not self.cache.trusted:
            await self._believe(found)
        self.stats.count(context_pb2.CACHE_LEVEL_MEMORY, len(found), len(least) - len(found))
        levels.update(dict.fromkeys(found, context_pb2.CACHE_LEVEL_MEMORY))
        missing = [key for key in least if key not in found]
        since = self.memory.mark()
        if missing:
            cached = await self.cache.conversations(missing)
            good = {key: document for key, document in cached.items() if document.version >= least[key]}
            self.stats.count(context_pb2.CACHE_LEVEL_REDIS, len(good), len(missing) - len(good))
            self._keep(good, since, found, levels, context_pb2.CACHE_LEVEL_REDIS)
            missing = [key for key in missing if key not in good]
        if missing:
            stored = await self.store.conversations(missing)
            self.stats.count(context_pb2.CACHE_LEVEL_POSTGRES, len(stored), len(missing) - len(stored))
            fresh = {key: sealed.document for key, sealed in stored.items()}
            self._keep(fresh, since, found, levels, context_pb2.CACHE_LEVEL_POSTGRES)
            await self.cache.put({key: one for key, one in stored.items() if one.data}, {}, announce=False)
        return found, levels

    def _keep(
        self,
        documents: Mapping[Key, Conversation],
        since: int,
        found: dict[Key, Conversation],
        levels: dict[Key, "context_pb2.CacheLevel.ValueType"],
        level: "context_pb2.CacheLevel.ValueType",
    ) -> None:
        for key, document in documents.items():
            found[key] = document
            levels[key] = level
            self.memory.put(key, document.version, document, since)

    async def _believe(self, found: dict[Key, Conversation]) -> None:
        """Without invalidations, memory is checked against Postgres's versions. With Postgres away too, it is all
        there is."""
        try:
            versions = await self.store.versions(list(found))
        except ParleyError:
            return
        for key in [key for key, document in found.items() if versions.get(key, 0) != document.version]:
            del found[key]
            self.memory.drop(key)

    async def load_contacts(self, keys: Sequence[Key]) -> dict[Key, Contact]:
        """The contacts' documents; an empty one for a contact of whom nothing was saved."""
        found: dict[Key, Contact] = {}
        trusted = self.cache.trusted
        for key in keys:
            kept = self.contact_memory.get(key) if trusted else None
            if kept is not None:
                found[key] = kept[1]
        missing = [key for key in keys if key not in found]
        if not missing:
            return found
        since = self.contact_memory.mark()
        fresh = dict(await self.cache.contacts(missing))
        absent = [key for key in missing if key not in fresh]
        if absent:
            stored = await self.store.contacts(absent)
            sealed = {key: stored.get(key, NOTHING_SAVED) for key in absent}
            fresh.update({key: one.document for key, one in sealed.items()})
            await self.cache.put({}, sealed, announce=False)
        for key, document in fresh.items():
            self.contact_memory.put(key, document.version, document, since)
        return found | fresh
