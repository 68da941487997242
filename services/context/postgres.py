"""Postgres: the truth of what is remembered."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import asyncpg

from parley.common.v1 import identity_pb2

from services.context.domain import Contact, Conversation
from services.context.ports import Key, SealedContact, SealedConversation
from services.context.sealing import Sealing
from services.kernel.ids import uuid7
from services.runtime.queries import load_queries

SQL = load_queries(Path(__file__).parent / "queries.sql")
JANITOR_ROWS = 1000


class PostgresStore:
    """Implements `ports.Store`."""

    def __init__(self, pool: asyncpg.Pool, sealing: Sealing) -> None:
        self._pool = pool
        self._sealing = sealing

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation]:
        rows = await self._pool.fetch(SQL["conversations"], *_columns(keys))
        return {
            Key(row[0], row[1]): SealedConversation(self._conversation(row[0], row[1], row[2], row[3], row[4]), row[4])
            for row in rows
        }

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact]:
        rows = await self._pool.fetch(SQL["contacts"], *_columns(keys))
        return {
            Key(row[0], row[1]): SealedContact(self._contact(row[0], row[1], row[2], row[3]), row[3]) for row in rows
        }

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        rows = await self._pool.fetch(SQL["versions"], *_columns(keys))
        return {Key(row[0], row[1]): row[2] for row in rows}

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        columns = [
            (key.tenant_id, key.id, document.contact_id, document.version, data, document.expires())
            for key, (document, data) in writes.items()
        ]
        rows = await self._pool.fetch(SQL["write"], *(list(column) for column in zip(*columns, strict=True)))
        return [Key(row[0], row[1]) for row in rows]

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["insert_contacts"], [contact.tenant_id], [contact.id])
            person = await connection.fetchrow(SQL["lock_contact"], contact.tenant_id, contact.id)
            assert person is not None  # inserted right before, and never deleted
            known = self._contact(contact.tenant_id, contact.id, person[0], person[1])
            row = await connection.fetchrow(SQL["lock_conversation"], key.tenant_id, key.id)
            before = Conversation(contact.id) if row is None else self._conversation(key.tenant_id, key.id, *row)
            changed, changed_contact = change(before, known)
            sealed = self._sealing.conversation(key.tenant_id, key.id, changed)
            if changed is not before:
                written = await connection.fetch(
                    SQL["write"],
                    [key.tenant_id],
                    [key.id],
                    [changed.contact_id],
                    [changed.version],
                    [sealed],
                    [changed.expires()],
                )
                if not written:
                    # It was inserted between our look and our write; the caller's call is repeated.
                    raise asyncpg.SerializationError("a conversation was written by another")
            data = self._sealing.contact(contact.tenant_id, contact.id, changed_contact)
            if changed_contact is not known:
                await connection.execute(
                    SQL["write_contact"],
                    contact.tenant_id,
                    contact.id,
                    changed_contact.version,
                    data,
                    changed_contact.expires(),
                )
            return SealedConversation(changed, sealed), SealedContact(changed_contact, data)

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, UUID]:
        digests = {
            key: [self._sealing.digest(key.tenant_id, identity) for identity in found] for key, found in wanted.items()
        }
        owners = await self._owners(digests)
        mine = {key: self._owner(key, digests[key], owners) or uuid7() for key in wanted}
        missing = [
            (key.tenant_id, digest, identity.kind, self._sealing.identity(key.tenant_id, identity), mine[key])
            for key, found in wanted.items()
            for digest, identity in zip(digests[key], found, strict=True)
            if (key.tenant_id, digest) not in owners
        ]
        if not missing:
            return mine
        await self._pool.execute(
            SQL["insert_identities"], *(list(column) for column in zip(*sorted(missing), strict=True))
        )
        # Another process may have been first with an identity: what stands in the table is what holds.
        owners = await self._owners(digests)
        return {key: self._owner(key, digests[key], owners) or mine[key] for key in wanted}

    async def _owners(self, digests: Mapping[Key, Sequence[bytes]]) -> dict[tuple[str, bytes], UUID]:
        pairs = [(key.tenant_id, digest) for key, found in digests.items() for digest in found]
        rows = await self._pool.fetch(SQL["identities"], [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return {(row[0], row[1]): row[2] for row in rows}

    @staticmethod
    def _owner(key: Key, digests: Sequence[bytes], owners: Mapping[tuple[str, bytes], UUID]) -> UUID | None:
        return next((owners[key.tenant_id, digest] for digest in digests if (key.tenant_id, digest) in owners), None)

    async def tidy(self) -> bool:
        """Empty some expired documents; whether there may be more."""
        status = await self._pool.execute(SQL["clear_expired"], JANITOR_ROWS)
        return status == f"UPDATE {JANITOR_ROWS}"

    def _conversation(
        self, tenant_id: str, conversation_id: UUID, contact_id: UUID, version: int, data: bytes
    ) -> Conversation:
        if not data:
            return Conversation(contact_id, version)
        return self._sealing.open_conversation(tenant_id, conversation_id, data)

    def _contact(self, tenant_id: str, contact_id: UUID, version: int, data: bytes) -> Contact:
        return self._sealing.open_contact(tenant_id, contact_id, data) if data else Contact(version)


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[UUID]]:
    return [key.tenant_id for key in keys], [key.id for key in keys]
