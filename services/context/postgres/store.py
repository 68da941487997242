"""The third level, and the source of truth: Postgres."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import asyncpg

from parley.common.v1 import identity_pb2

from services.context.domain.documents import Contact, Conversation
from services.context.ports import Key, Missed, Resolved, SealedContact, SealedConversation
from services.context.sealing import Sealing
from services.kernel.errors import Kind, ParleyError
from services.kernel.ids import uuid7
from services.runtime.logs import get_logger
from services.runtime.postgres import PoolConnection, retry_deadlocks, told_away
from services.runtime.queries import load_queries

log = get_logger(__name__)
SQL = load_queries(Path(__file__).parent / "queries.sql")
Identified = tuple[str, bytes]
"""A tenant and the digest of an identity."""


class PostgresStore:
    """Implements `ports.Store` and `ports.MissedSaves`."""

    def __init__(self, pool: asyncpg.Pool, sealing: Sealing) -> None:
        self._pool = pool
        self._sealing = sealing

    async def conversations(self, keys: Sequence[Key]) -> Mapping[Key, SealedConversation | ParleyError]:
        with told_away():
            rows = await self._pool.fetch(SQL["conversations"], *_columns(keys))
        found: dict[Key, SealedConversation | ParleyError] = {}
        for tenant_id, conversation_id, contact_id, version, data in rows:
            key = Key(tenant_id, conversation_id)
            try:
                found[key] = SealedConversation(self._conversation(key, contact_id, version, data), data)
            except ParleyError as error:
                found[key] = error
        return found

    async def contacts(self, keys: Sequence[Key]) -> Mapping[Key, SealedContact | ParleyError]:
        with told_away():
            rows = await self._pool.fetch(SQL["contacts"], *_columns(keys))
        found: dict[Key, SealedContact | ParleyError] = {}
        for tenant_id, contact_id, version, data in rows:
            key = Key(tenant_id, contact_id)
            try:
                found[key] = SealedContact(self._contact(key, version, data), data)
            except ParleyError as error:
                found[key] = error
        return found

    async def versions(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        with told_away():
            rows = await self._pool.fetch(SQL["versions"], *_columns(keys))
        return {Key(row[0], row[1]): row[2] for row in rows}

    async def write(self, writes: Mapping[Key, SealedConversation]) -> Collection[Key]:
        columns = [
            (key.tenant_id, key.id, document.contact_id, document.version, data, document.expires())
            for key, (document, data) in writes.items()
        ]
        with told_away():
            rows = await self._pool.fetch(SQL["write"], *(list(column) for column in zip(*columns, strict=True)))
        return [Key(row[0], row[1]) for row in rows]

    async def write_both(
        self, key: Key, contact: Key, change: Callable[[Conversation, Contact], tuple[Conversation, Contact]]
    ) -> tuple[SealedConversation, SealedContact]:
        async def work() -> tuple[SealedConversation, SealedContact]:
            async with self._pool.acquire() as connection, connection.transaction():
                return await self._write_both(connection, key, contact, change)

        with told_away():
            return await retry_deadlocks(work)

    async def _write_both(
        self,
        connection: PoolConnection,
        key: Key,
        contact: Key,
        change: Callable[[Conversation, Contact], tuple[Conversation, Contact]],
    ) -> tuple[SealedConversation, SealedContact]:
        await connection.execute(SQL["insert_contacts"], [contact.tenant_id], [contact.id])
        person = await connection.fetchrow(SQL["lock_contact"], contact.tenant_id, contact.id)
        if person is None:
            # Retention has just removed it, as it expired long ago. The transaction is repeated.
            raise asyncpg.SerializationError("a contact was removed")
        known = self._contact(contact, person[0], person[1])
        row = await connection.fetchrow(SQL["lock_conversation"], key.tenant_id, key.id)
        before = Conversation(contact.id) if row is None else self._conversation(key, *row)
        changed, changed_contact = change(before, known)
        sealed = self._sealing.conversation(key.tenant_id, key.id, changed)
        if changed is not before:
            columns = (key.tenant_id, key.id, changed.contact_id, changed.version, sealed, changed.expires())
            if not await connection.fetch(SQL["write"], *([column] for column in columns)):
                # Somebody inserted it between our read and our write. The transaction is repeated.
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

    async def resolve(self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]]) -> Mapping[Key, Resolved]:
        digests = {
            key: [self._sealing.digest(key.tenant_id, identity) for identity in found] for key, found in wanted.items()
        }
        with told_away():
            return await self._resolve(wanted, digests)

    async def _resolve(
        self, wanted: Mapping[Key, Sequence[identity_pb2.Identity]], digests: Mapping[Key, Sequence[bytes]]
    ) -> Mapping[Key, Resolved]:
        owners, unseen = await self._owners(digests)
        mine: dict[Key, UUID] = {}
        made: dict[Identified, UUID] = {}
        news: dict[Identified, tuple[int, bytes, UUID]] = {}
        # A person who appears twice in a batch is one contact; an existing contact wins over a new one.
        for key in sorted(wanted, key=lambda key: self._owner(key, digests[key], owners) is None):
            known = self._owner(key, digests[key], owners)
            mine[key] = known or self._owner(key, digests[key], made) or uuid7()
            for digest, identity in zip(digests[key], wanted[key], strict=True):
                place = (key.tenant_id, digest)
                if place not in news and (place not in owners or place in unseen):
                    news[place] = (identity.kind, self._sealing.identity(key.tenant_id, identity), mine[key])
                    if known is None:
                        made[place] = mine[key]
        if news:
            columns = zip(*((*place, *row) for place, row in news.items()), strict=True)
            rows = await self._pool.fetch(SQL["see_identities"], *(list(column) for column in columns))
            # Another process may have stored an identity first: the table decides.
            owners |= {(row[0], row[1]): row[2] for row in rows}
        resolved, new = {}, set(made.values())
        for key in wanted:
            contact_id = self._owner(key, digests[key], owners) or mine[key]
            resolved[key] = Resolved(contact_id, contact_id in new)
        return resolved

    async def _owners(self, digests: Mapping[Key, Sequence[bytes]]) -> tuple[dict[Identified, UUID], set[Identified]]:
        """Returns the owners of identities, and the identities that nobody has looked up for a day."""
        pairs = [(key.tenant_id, digest) for key, found in digests.items() for digest in found]
        rows = await self._pool.fetch(SQL["identities"], [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return {(row[0], row[1]): row[2] for row in rows}, {(row[0], row[1]) for row in rows if row[3]}

    @staticmethod
    def _owner(key: Key, digests: Sequence[bytes], owners: Mapping[Identified, UUID]) -> UUID | None:
        return next((owners[key.tenant_id, digest] for digest in digests if (key.tenant_id, digest) in owners), None)

    async def add(self, missed: Sequence[Missed]) -> None:
        newest: dict[str, int] = {}
        for name, version in missed:
            newest[name] = max(version, newest.get(name, 0))
        with told_away():
            await retry_deadlocks(
                lambda: self._pool.execute(SQL["add_missed"], list(newest.keys()), list(newest.values()))
            )

    async def saves(self, limit: int) -> Sequence[Missed]:
        with told_away():
            return [Missed(*row) for row in await self._pool.fetch(SQL["missed"], limit)]

    async def made_up(self, missed: Sequence[Missed]) -> None:
        names, versions = [each.name for each in missed], [each.version for each in missed]
        with told_away():
            await retry_deadlocks(lambda: self._pool.execute(SQL["made_up"], names, versions))

    def _conversation(self, key: Key, contact_id: UUID, version: int, data: bytes) -> Conversation:
        if not data:
            return Conversation(contact_id, version)
        with unreadable("conversation", key):
            return self._sealing.open_conversation(key.tenant_id, key.id, data)

    def _contact(self, key: Key, version: int, data: bytes) -> Contact:
        if not data:
            return Contact(version)
        with unreadable("contact", key):
            return self._sealing.open_contact(key.tenant_id, key.id, data)


@contextmanager
def unreadable(kind: str, key: Key) -> Iterator[None]:
    """Turns a row that cannot be opened or decoded into a failure of that row alone."""
    try:
        yield
    except Exception as error:
        log.error("a stored row cannot be read", kind=kind, tenant_id=key.tenant_id, id=str(key.id), exc_info=error)
        message = f"What is stored of the {kind} {key.id} cannot be read; the log says why."
        raise ParleyError(Kind.INTERNAL, "INTERNAL", message) from error


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[UUID]]:
    return [key.tenant_id for key in keys], [key.id for key in keys]
