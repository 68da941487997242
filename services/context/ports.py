"""What the use cases need of the stores."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from parley.common.v1 import identity_pb2

from services.context.domain.documents import Contact, Conversation
from services.kernel.errors import ParleyError


class Key(NamedTuple):
    """A conversation or a contact of a tenant."""

    tenant_id: str
    id: UUID


class SealedConversation(NamedTuple):
    """A conversation's document with its stored bytes, so that it is sealed once for all levels."""

    document: Conversation
    data: bytes


class SealedContact(NamedTuple):
    """A contact's document with its stored bytes; empty bytes for one of whom nothing was saved."""

    document: Contact
    data: bytes


class Hearers(IntEnum):
    """Who is told of a change."""

    NOBODY = 0
    PROCESSES = 1
    """The other processes of this service."""
    ALL = 2
    """Also those who keep what a lane of dialog has read: it was not saved by a lane."""


class Resolved(NamedTuple):
    """Whose an identity is."""

    contact_id: UUID
    made: bool = False
    """The contact has been made just now: nothing was ever saved of it."""


class Missed(NamedTuple):
    """A saved document of which Redis did not hear: its name, as Redis has it, and its version."""

    name: str
    version: int


class MissedSaves(Protocol):
    """Where it is written down what Redis has missed, for all processes. Every call raises STORAGE_UNAVAILABLE."""

    async def add(self, missed: Sequence[Missed]) -> None: ...

    async def saves(self, limit: int) -> Sequence[Missed]: ...

    async def made_up(self, missed: Sequence[Missed]) -> None:
        """Forget them, unless a later save was missed."""


class Store(Protocol):
    """Postgres: the truth. Every call raises STORAGE_UNAVAILABLE; a row that cannot be read is a failure of its own."""

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation | ParleyError]: ...

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact | ParleyError]: ...

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]: ...

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        """Write what is still one version behind; the keys that were written."""

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        """Change both documents in one transaction, under their row locks."""

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, Resolved]:
        """The contact of each; created, or given further identities, where needed. Keys are conversations."""


class Cache(Protocol):
    """Redis: shared, may be away."""

    @property
    def trusted(self) -> bool:
        """Whether invalidations reach this process now, so that its memory may be believed."""

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]: ...

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]: ...

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        tell: Hearers,
    ) -> None:
        """Keep documents, where they are newer, and tell of them. Raises STORAGE_UNAVAILABLE when Redis misses one that
        is to be told and that cannot be written down."""

    async def drop(self, key: Key, version: int) -> None:
        """Forget a conversation here and tell all. Raises as `put` does."""
