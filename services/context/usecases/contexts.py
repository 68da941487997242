"""Reads and saves contexts, many conversations at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from services.context.domain import documents, identities
from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.context.ports import Hearers, Key, SealedConversation
from services.context.usecases.cache_levels import CacheLevels, Found, split
from services.kernel.errors import ParleyError, storage_unavailable
from services.runtime import crashpoints

SAVE_TRIES = 5
"""How often a save is tried while others save the same conversation."""


@dataclass
class Contexts:
    """The use cases. `now` returns Unix milliseconds."""

    levels: CacheLevels
    lifetimes: Lifetimes
    now: Callable[[], int]
    seal: Callable[[str, UUID, Conversation], bytes]
    """Returns the stored bytes of a tenant's conversation. Raises TOO_LARGE."""

    async def get(
        self, requests: Sequence[context_pb2.GetContextRequest]
    ) -> list[context_pb2.GetContextResponse | ParleyError]:
        """Answers many reads, with at most one round to Redis and one to Postgres."""
        with self.levels.stats.read():
            keys = [Key(request.tenant_id, UUID(request.conversation_id)) for request in requests]
            least: dict[Key, int] = {}
            for key, request in zip(keys, requests, strict=True):
                least[key] = max(least.get(key, 0), request.min_version)
            found = await self.levels.load(least)
            failed = found.failed
            new = self._unknown(keys, requests, found)
            made = await self._resolve(new, found)
            people = {Key(key.tenant_id, one.contact_id) for key, one in found.documents.items() if key not in made}
            known = await self.levels.load_contacts(list(people))
        now = self.now()
        results: list[context_pb2.GetContextResponse | ParleyError] = []
        for key in keys:
            conversation = found.documents.get(key)
            if conversation is None:
                results.append(failed.get(key) or context_pb2.GetContextResponse())
                continue
            person = Key(key.tenant_id, conversation.contact_id)
            if person in known.failed:
                results.append(known.failed[person])
                continue
            contact = known.documents.get(person, Contact())
            results.append(
                context_pb2.GetContextResponse(
                    contact_id=str(conversation.contact_id),
                    snapshot=documents.snapshot(conversation, contact, now),
                    version=conversation.version,
                    contact_version=contact.version,
                    expires_in=documents.expires_in(conversation, contact, now),
                    level=found.levels.get(key, context_pb2.CACHE_LEVEL_POSTGRES),
                )
            )
        return results

    def _unknown(
        self,
        keys: Sequence[Key],
        requests: Sequence[context_pb2.GetContextRequest],
        found: Found[Conversation],
    ) -> dict[Key, list[identity_pb2.Identity]]:
        new: dict[Key, list[identity_pb2.Identity]] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in found.documents or key in found.failed or not request.HasField("sender"):
                continue
            try:
                new[key] = identities.all_of(request.sender)
            except ParleyError as error:
                found.failed[key] = error
        return new

    async def _resolve(self, new: Mapping[Key, list[identity_pb2.Identity]], found: Found[Conversation]) -> set[Key]:
        """Finds or makes the contacts of new conversations; returns the conversations whose contact is new."""
        if not new:
            return set()
        try:
            contacts = await self.levels.store.resolve(new)
        except ParleyError as error:
            found.failed.update(dict.fromkeys(new, error))
            return set()
        found.documents |= {key: Conversation(one.contact_id) for key, one in contacts.items()}
        return {key for key, one in contacts.items() if one.made}

    async def save(
        self, requests: Sequence[context_pb2.SaveContextRequest], tell: Hearers
    ) -> list[context_pb2.SaveContextResponse | ParleyError]:
        """Carries out many saves, those of one conversation in their order, and announces them to `tell`."""
        results: list[context_pb2.SaveContextResponse | ParleyError | None] = [None] * len(requests)
        with self.levels.stats.save():
            waiting = list(range(len(requests)))
            while waiting:
                taken: set[tuple[str, str]] = set()
                now_: list[int] = []
                later: list[int] = []
                for index in waiting:
                    conversation = (requests[index].tenant_id, requests[index].conversation_id)
                    (later if conversation in taken else now_).append(index)
                    taken.add(conversation)
                for index, result in zip(
                    now_, await self._save_round([requests[index] for index in now_], tell), strict=True
                ):
                    results[index] = result
                waiting = later
        return [result if result is not None else storage_unavailable("Postgres") for result in results]

    async def _save_round(
        self, requests: Sequence[context_pb2.SaveContextRequest], tell: Hearers
    ) -> list[context_pb2.SaveContextResponse | ParleyError]:
        results: dict[int, context_pb2.SaveContextResponse | ParleyError] = {}
        keys = [Key(request.tenant_id, UUID(request.conversation_id)) for request in requests]
        open_: list[int] = []
        for index, request in enumerate(requests):
            try:
                documents.check_mask(request.update_mask)
            except ParleyError as error:
                results[index] = error
            else:
                open_.append(index)
        found = await self.levels.load({keys[index]: 0 for index in open_})
        bases: Mapping[Key, Conversation] = found.documents
        failed = found.failed
        for _ in range(SAVE_TRIES):
            results |= {index: failed[keys[index]] for index in open_ if keys[index] in failed}
            open_ = [index for index in open_ if index not in results]
            open_ = await self._try_save(requests, keys, bases, open_, results, tell)
            if not open_:
                break
            # Somebody else has saved in between. Postgres knows what.
            stored, failed = split(await self.levels.store.conversations([keys[index] for index in open_]))
            bases = {key: sealed.document for key, sealed in stored.items()}
        for index in open_:
            results[index] = storage_unavailable("Postgres")
        return [results[index] for index in range(len(requests))]

    async def _try_save(
        self,
        requests: Sequence[context_pb2.SaveContextRequest],
        keys: Sequence[Key],
        bases: Mapping[Key, Conversation],
        indexes: Sequence[int],
        results: dict[int, context_pb2.SaveContextResponse | ParleyError],
        tell: Hearers,
    ) -> list[int]:
        """Tries once; returns the indexes whose base was out of date."""
        now = self.now()
        writes: dict[Key, SealedConversation] = {}
        replays: dict[Key, SealedConversation] = {}
        for index in indexes:
            request, key = requests[index], keys[index]
            base = bases.get(key) or Conversation(UUID(request.contact_id))
            try:
                if request.request_id in base.requests:
                    version = base.requests[request.request_id]
                    results[index] = context_pb2.SaveContextResponse(version=version, replayed=True)
                    replays[key] = SealedConversation(base, self.seal(key.tenant_id, key.id, base))
                elif documents.touches_contact(request) or request.HasField("expected_version"):
                    # Compares with the truth rather than with a cache.
                    results[index] = await self._save_both(key, request)
                else:
                    changed, _ = documents.save(base, Contact(), request, self.lifetimes, now)
                    writes[key] = SealedConversation(changed, self.seal(key.tenant_id, key.id, changed))
            except ParleyError as error:
                results[index] = error
        try:
            # The process that saved it may have ended before it could announce it.
            await self.levels.cache.put(replays, {}, tell=tell)
            done = await self._write(writes, tell)
        except ParleyError as error:
            results |= {index: error for index in indexes if keys[index] in writes or keys[index] in replays}
            return []
        for index in indexes:
            if keys[index] in done:
                results[index] = _saved(done[keys[index]].document, now)
        return [index for index in indexes if index not in results]

    async def _write(self, writes: Mapping[Key, SealedConversation], tell: Hearers) -> Mapping[Key, SealedConversation]:
        """Writes to all levels, Postgres first; returns what was written."""
        if not writes:
            return {}
        crashpoints.reach("context.before_commit")
        since = self.levels.memory.mark()
        written = await self.levels.store.write(writes)
        crashpoints.reach("context.after_commit")
        done = {key: writes[key] for key in written}
        for key, sealed in done.items():
            self.levels.memory.put(key, sealed.document.version, sealed.document, since)
        await self.levels.cache.put(done, {}, tell=tell)
        crashpoints.reach("context.after_cache")
        return done

    async def _save_both(self, key: Key, request: context_pb2.SaveContextRequest) -> context_pb2.SaveContextResponse:
        """Saves conversation and contact in one transaction, under both row locks."""
        replayed: list[int] = []

        def change(conversation: Conversation, contact: Contact) -> tuple[Conversation, Contact]:
            if request.request_id in conversation.requests:
                replayed.append(conversation.requests[request.request_id])
                return conversation, contact
            return documents.save(conversation, contact, request, self.lifetimes, self.now())

        person = Key(key.tenant_id, UUID(request.contact_id))
        since, since_contact = self.levels.memory.mark(), self.levels.contact_memory.mark()
        conversation, contact = await self.levels.store.write_both(key, person, change)
        self.levels.memory.put(key, conversation.document.version, conversation.document, since)
        self.levels.contact_memory.put(person, contact.document.version, contact.document, since_contact)
        await self.levels.cache.put({key: conversation}, {person: contact}, tell=Hearers.ALL)
        if replayed:
            return context_pb2.SaveContextResponse(version=replayed[0], replayed=True)
        return _saved(conversation.document, self.now())

    async def invalidate(self, request: context_pb2.InvalidateContextRequest) -> None:
        """Drops a conversation from Redis and from the memory of every process."""
        key = Key(request.tenant_id, UUID(request.conversation_id))
        self.levels.memory.drop(key)
        versions = await self.levels.store.versions([key])
        await self.levels.cache.drop(key, versions.get(key, 0))


def _saved(document: Conversation, now: int) -> context_pb2.SaveContextResponse:
    expires_in = documents.expires_in(document, Contact(), now)
    return context_pb2.SaveContextResponse(version=document.version, expires_in=expires_in)
