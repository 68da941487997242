"""CTX-2: reads that are under way while what they read is changed elsewhere."""

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

import pytest

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.context.ports import Hearers, Key, Resolved, SealedContact, SealedConversation
from services.context.usecases.cache_levels import CacheLevels
from services.context.usecases.contexts import Contexts
from services.context.usecases.memory import Memory

KEY = Key("demo", uuid4())
PERSON = Key("demo", uuid4())


class Elsewhere:
    """Redis or Postgres: holds one document of each kind; `meanwhile` happens after it was read, before the answer."""

    trusted = True

    def __init__(self, version: int | None) -> None:
        self.version = version
        self.meanwhile: Callable[[], None] = lambda: None

    def sealed(self, version: int) -> SealedConversation:
        return SealedConversation(Conversation(PERSON.id, version), b"sealed")


class FakeCache(Elsewhere):
    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]:
        found = {} if self.version is None else {key: self.sealed(self.version).document for key in keys}
        self.meanwhile()
        return found

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]:
        found = {} if self.version is None else {key: Contact(self.version) for key in keys}
        self.meanwhile()
        return found

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        tell: Hearers,
    ) -> None:
        pass

    async def drop(self, key: Key, version: int) -> None:
        pass


class FakeStore(Elsewhere):
    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation]:
        found = {} if self.version is None else {key: self.sealed(self.version) for key in keys}
        self.meanwhile()
        return found

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact]:
        found = {} if self.version is None else {key: SealedContact(Contact(self.version), b"sealed") for key in keys}
        self.meanwhile()
        return found

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        return {} if self.version is None else dict.fromkeys(keys, self.version)

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        self.meanwhile()
        return list(writes)

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        raise NotImplementedError

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, Resolved]:
        raise NotImplementedError


def levels_of(cached: int | None, stored: int | None) -> tuple[CacheLevels, FakeCache, FakeStore]:
    """CacheLevels whose Redis and Postgres hold documents of these versions."""
    cache, store = FakeCache(cached), FakeStore(stored)
    return CacheLevels(store, cache, Memory[Conversation](10, 60), Memory[Contact](10, 60)), cache, store


@pytest.mark.parametrize("slow", ["redis", "postgres"])
@pytest.mark.parametrize("happening", ["invalidation", "reconnect"])
async def test_a_slow_read_does_not_bring_back_what_was_invalidated_meanwhile(slow: str, happening: str) -> None:
    levels, cache, store = levels_of(1 if slow == "redis" else None, 1)

    def invalidated() -> None:
        for memory, key in ((levels.memory, KEY), (levels.contact_memory, PERSON)):
            if happening == "invalidation":
                memory.drop(key, below=2)
            else:
                memory.clear()

    (cache if slow == "redis" else store).meanwhile = invalidated
    await levels.load({KEY: 0})
    await levels.load_contacts([PERSON])
    assert (levels.memory.get(KEY), levels.contact_memory.get(PERSON)) == (None, None)


async def test_a_read_after_the_invalidation_is_kept() -> None:
    levels, _, _ = levels_of(None, 1)
    levels.memory.drop(KEY, below=2)
    levels.memory.clear()
    levels.memory.drop(KEY, below=2)
    await levels.load({KEY: 0})
    assert (levels.memory.get(KEY) or (0, None))[0] == 1


@pytest.mark.parametrize(("announced", "kept"), [(2, 2), (3, 0)])
async def test_an_own_save_is_kept_unless_a_newer_one_was_announced_meanwhile(announced: int, kept: int) -> None:
    levels, _, store = levels_of(1, 1)
    contexts = Contexts(levels, Lifetimes(), lambda: 0, lambda *_: b"sealed")
    store.meanwhile = lambda: levels.memory.drop(KEY, below=announced)
    request = context_pb2.SaveContextRequest(
        tenant_id=KEY.tenant_id, conversation_id=str(KEY.id), contact_id=str(PERSON.id), request_id="r"
    )
    (answer,) = await contexts.save([request], Hearers.ALL)
    assert isinstance(answer, context_pb2.SaveContextResponse)
    assert answer.version == 2
    assert (levels.memory.get(KEY) or (0, None))[0] == kept
