"""CTX-6: what cannot be told of one conversation is no reason to withhold the others."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.context.ports import Hearers, Key, Resolved, SealedContact, SealedConversation
from services.context.usecases.cache_levels import CacheLevels
from services.context.usecases.contexts import Contexts
from services.context.usecases.memory import Memory
from services.kernel.errors import Kind, ParleyError, storage_unavailable
from tests.unit.context.test_levels import FakeCache, FakeStore

BROKEN = ParleyError(Kind.INTERNAL, "INTERNAL", "cannot be read")


class Cache(FakeCache):
    """Holds what tests put into it, and remembers what was announced."""

    def __init__(self) -> None:
        super().__init__(None)
        self.documents: dict[Key, Conversation] = {}
        self.people: dict[Key, Contact] = {}
        self.announced: list[tuple[Key, int]] = []
        self.fails = 0

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]:
        return {key: self.documents[key] for key in keys if key in self.documents}

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]:
        return {key: self.people[key] for key in keys if key in self.people}

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        tell: Hearers,
    ) -> None:
        if tell is not Hearers.NOBODY and conversations:
            if self.fails:
                self.fails -= 1
                raise storage_unavailable("Postgres")
            self.announced += [(key, one.document.version) for key, one in conversations.items()]


class Store(FakeStore):
    """Is away, or holds rows, some of which cannot be read."""

    def __init__(self) -> None:
        super().__init__(None)
        self.away = False
        self.rows: dict[Key, SealedConversation | ParleyError] = {}
        self.people: dict[Key, SealedContact | ParleyError] = {}

    def _check(self) -> None:
        if self.away:
            raise storage_unavailable("Postgres")

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation | ParleyError]:  # type: ignore[override]
        self._check()
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact | ParleyError]:  # type: ignore[override]
        self._check()
        return {key: self.people[key] for key in keys if key in self.people}

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        self._check()
        return {key: 1 for key in keys if key in self.rows}

    async def write(self, writes: Mapping[Key, SealedConversation]) -> list[Key]:
        self._check()
        self.rows |= writes
        return list(writes)

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, Resolved]:
        self._check()
        return {key: Resolved(uuid4()) for key in wanted}


class Bench:
    def __init__(self) -> None:
        self.cache, self.store = Cache(), Store()
        self.levels = CacheLevels(self.store, self.cache, Memory[Conversation](100, 60), Memory[Contact](100, 60))
        self.contexts = Contexts(self.levels, Lifetimes(), lambda: 0, lambda *_: b"sealed")

    def remember(self, version: int = 1, *, contact: bool = True) -> Key:
        """A conversation in memory."""
        key, person = Key("demo", uuid4()), uuid4()
        self.levels.memory.put(key, version, Conversation(person, version), self.levels.memory.mark())
        if contact:
            self.levels.contact_memory.put(Key("demo", person), 1, Contact(1), self.levels.contact_memory.mark())
        return key

    async def get(self, *keys: Key, **more: object) -> list[context_pb2.GetContextResponse | ParleyError]:
        return await self.contexts.get([read(key, **more) for key in keys])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def read(key: Key, **more: object) -> context_pb2.GetContextRequest:
    sender = identity_pb2.Sender(
        identity=identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_TELEGRAM, value=str(key.id))
    )
    return context_pb2.GetContextRequest(
        tenant_id=key.tenant_id,
        conversation_id=str(key.id),
        sender=sender,
        **more,  # type: ignore[arg-type]
    )


def save(key: Key, request_id: str = "r") -> context_pb2.SaveContextRequest:
    return context_pb2.SaveContextRequest(
        tenant_id=key.tenant_id,
        conversation_id=str(key.id),
        contact_id=str(uuid4()),
        request_id=request_id,
        changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(step="one")),
        update_mask=FieldMask(paths=["dialog"]),
    )


def reasons(results: Sequence[object]) -> list[str]:
    return [result.reason if isinstance(result, ParleyError) else "" for result in results]


async def test_with_postgres_away_every_hit_of_a_batch_is_answered_and_a_miss_fails_alone(bench: Bench) -> None:
    here = bench.remember()
    there = Key("demo", uuid4())
    bench.cache.documents[there] = Conversation(uuid4(), 3)
    bench.cache.people[Key("demo", bench.cache.documents[there].contact_id)] = Contact(1)
    nowhere = Key("demo", uuid4())
    bench.store.away = True
    answers = await bench.get(here, nowhere, there)
    assert reasons(answers) == ["", "STORAGE_UNAVAILABLE", ""]
    levels = [each.level for each in answers if isinstance(each, context_pb2.GetContextResponse)]
    assert levels == [context_pb2.CACHE_LEVEL_MEMORY, context_pb2.CACHE_LEVEL_REDIS]


async def test_with_postgres_away_a_newer_version_than_is_known_fails_alone(bench: Bench) -> None:
    old, new = bench.remember(1), bench.remember(2)
    bench.store.away = True
    assert reasons(await bench.get(old, new, min_version=2)) == ["STORAGE_UNAVAILABLE", ""]


async def test_a_conversation_whose_contact_nobody_can_tell_fails_alone(bench: Bench) -> None:
    known, unknown = bench.remember(), bench.remember(contact=False)
    bench.store.away = True
    assert reasons(await bench.get(known, unknown)) == ["", "STORAGE_UNAVAILABLE"]


async def test_with_both_stores_away_memory_answers(bench: Bench) -> None:
    key = bench.remember()
    bench.store.away = True
    bench.cache.trusted = False
    assert reasons(await bench.get(key)) == [""]


async def test_a_row_that_cannot_be_read_fails_alone(bench: Bench) -> None:
    good, bad = Key("demo", uuid4()), Key("demo", uuid4())
    bench.store.rows = {good: SealedConversation(Conversation(uuid4(), 1), b"sealed"), bad: BROKEN}
    assert reasons(await bench.get(good, bad)) == ["", "INTERNAL"]
    assert reasons(await bench.contexts.save([save(bad), save(good)], Hearers.ALL)) == ["INTERNAL", ""]


async def test_a_contact_that_cannot_be_read_fails_alone(bench: Bench) -> None:
    good, bad = bench.remember(), bench.remember(contact=False)
    kept = bench.levels.memory.get(bad)
    assert kept is not None
    bench.store.people[Key("demo", kept[1].contact_id)] = BROKEN
    assert reasons(await bench.get(good, bad)) == ["", "INTERNAL"]


async def test_a_save_that_redis_missed_and_nobody_could_note_is_told_to_redis_when_it_is_repeated(
    bench: Bench,
) -> None:
    key = Key("demo", uuid4())
    bench.cache.fails = 1
    assert reasons(await bench.contexts.save([save(key)], Hearers.ALL)) == ["STORAGE_UNAVAILABLE"]
    (answer,) = await bench.contexts.save([save(key)], Hearers.ALL)
    assert isinstance(answer, context_pb2.SaveContextResponse)
    assert (answer.version, answer.replayed) == (1, True)
    assert bench.cache.announced == [(key, 1)]
