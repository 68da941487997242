"""What the use cases need of the stores."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from parley.common.v1 import identity_pb2

from services.context.domain import Contact, Conversation


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


class Store(Protocol):
    """Postgres: the truth."""

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation]: ...

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact]: ...

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]: ...

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        """Write what is still one version behind; the keys that were written."""

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        """Change both documents in one transaction, under their row locks."""

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, UUID]:
        """The contact of each; created, or given further identities, where needed. Keys are conversations."""


class Cache(Protocol):
    """Redis: shared, may be away, never raises."""

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
        announce: bool,
    ) -> None:
        """Keep documents, where they are newer; `announce` tells the other processes."""

    async def drop(self, key: Key, version: int) -> None:
        """Forget a conversation here and tell the other processes."""
