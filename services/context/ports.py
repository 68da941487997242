"""What the use cases need from the stores."""

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
    """A conversation's document with its stored bytes, so that one seal serves all levels."""

    document: Conversation
    data: bytes


class SealedContact(NamedTuple):
    """A contact's document with its stored bytes, which are empty if nothing was saved."""

    document: Contact
    data: bytes


class Hearers(IntEnum):
    """Who is told of a change."""

    NOBODY = 0
    PROCESSES = 1
    """The other processes of this service."""
    ALL = 2
    """Also the processes that keep what a lane of dialog has read, because the save did not come from a lane."""


class Resolved(NamedTuple):
    """The contact that an identity belongs to."""

    contact_id: UUID
    made: bool = False
    """The contact is new, so nothing has been saved for it yet."""


class Missed(NamedTuple):
    """A saved document that Redis was not told of: its name in Redis, and its version."""

    name: str
    version: int


class MissedSaves(Protocol):
    """The list, shared by all processes, of saves that Redis has missed. Calls raise STORAGE_UNAVAILABLE."""

    async def add(self, missed: Sequence[Missed]) -> None: ...

    async def saves(self, limit: int) -> Sequence[Missed]: ...

    async def made_up(self, missed: Sequence[Missed]) -> None:
        """Forgets these, unless a later save was missed as well."""


class Store(Protocol):
    """Postgres, the source of truth. Calls raise STORAGE_UNAVAILABLE. A row that cannot be read fails alone."""

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation | ParleyError]: ...

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact | ParleyError]: ...

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]: ...

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        """Writes documents whose stored version is the one right before them; returns the keys that were written."""

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        """Changes both documents in one transaction, under their row locks."""

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, Resolved]:
        """Returns the contact of each conversation, after creating it or adding identities to it where needed."""


class Cache(Protocol):
    """Redis, shared by all processes. It may be away."""

    @property
    def trusted(self) -> bool:
        """Whether invalidations reach this process now, so that its memory can be believed."""

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, Conversation]: ...

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, Contact]: ...

    async def put(
        self,
        conversations: Mapping[Key, SealedConversation],
        contacts: Mapping[Key, SealedContact],
        *,
        tell: Hearers,
    ) -> None:
        """Keeps documents that are newer, and announces them to `tell`.

        Raises STORAGE_UNAVAILABLE if Redis misses an announcement and this cannot be written down either.
        """

    async def drop(self, key: Key, version: int) -> None:
        """Forgets a conversation and announces that to all. Raises as `put` does."""
