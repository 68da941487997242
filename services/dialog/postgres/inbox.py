"""The inbox: messages in, once each; an operator's retry; the end of dedupe after a week."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from cachetools import TTLCache
from google.protobuf.message import Message

from parley.dialog.v1.dialog_pb2 import RetryMessageResponse

from services.dialog.domain.turns import MessageState
from services.dialog.ports import Added, NewMessage, share_of
from services.dialog.postgres.database import Database
from services.dialog.postgres.handover import Handover
from services.dialog.postgres.queries import Row, queries
from services.dialog.postgres.request_ids import Once
from services.dialog.postgres.sealing import Sealing
from services.dialog.usecases.messages import Requeue, Unanswered
from services.kernel.errors import Kind, ParleyError, not_found
from services.runtime.lanes import Priority

if TYPE_CHECKING:
    from services.runtime.postgres import PoolConnection

DEDUPE_FOR = timedelta(days=7)
FORGOTTEN_AT_ONCE = 1_000
_ROUNDS = 5
_NOTED_FOR = 60.0
_NOTED = 5_000
"""Conversations that are known to be noted, and for how many seconds; each takes 500 bytes here."""


class PostgresInbox:
    """Adds messages in one statement; duplicates cost a second one."""

    def __init__(self, database: Database, sealing: Sealing, handover: Handover) -> None:
        self._database = database
        self._handover = handover
        self._sealing = sealing
        known = queries("inbox")
        self._sql = {name: query.sql for name, query in known.items()}
        self._add_query = known["add"]
        self._once = Once(database)
        self._noted: TTLCache[tuple[UUID, str], None] = TTLCache(_NOTED, _NOTED_FOR)

    async def add(self, messages: Sequence[NewMessage]) -> Sequence[Added | Exception]:
        """Store messages durably, each once per dedupe id. A message that Postgres refuses fails alone."""
        try:
            return await self._add(messages)
        except ParleyError as error:
            if error.kind is not Kind.INVALID:
                raise
            if len(messages) == 1:
                return [error]
            return [(await self.add([message]))[0] for message in messages]

    async def _add(self, messages: Sequence[NewMessage]) -> list[Added | Exception]:
        first: dict[UUID, NewMessage] = {}
        for message in messages:
            first.setdefault(message.dedupe_id, message)
        stored: dict[UUID, Added] = {}
        for _ in range(_ROUNDS):
            new = [message for dedupe_id, message in first.items() if dedupe_id not in stored]
            try:
                # Whoever gives up waiting leaves no lane leased that nobody works on.
                handed = await asyncio.shield(self._insert(new)) if new else set[UUID]()
            except asyncpg.UniqueViolationError:
                stored |= await self._find(list(first))
                continue
            for message in new:
                taken = message.conversation_id in handed
                due_in = self._handover.debounce(message)
                stored[message.dedupe_id] = Added(message.message_id, message.conversation_id, False, taken, due_in)
            return [_result(message, stored[message.dedupe_id]) for message in messages]
        raise RuntimeError("messages are duplicates of messages that are not there")

    async def _insert(self, messages: Sequence[NewMessage]) -> set[UUID]:
        """Store messages; the lanes that are worked on here already."""
        waiting = [message for message in messages if not message.request.rejection]
        heads: dict[UUID, NewMessage] = {}
        for message in waiting:
            heads.setdefault(message.conversation_id, message)
        counts = Counter(message.conversation_id for message in waiting)
        notes = self._to_note(messages)
        places = self._handover.keep(heads)
        due_in = [self._handover.debounce(head) for head in heads.values()]
        try:
            arguments = self._add_query.arguments(
                list(heads),
                [head.request.tenant_id for head in heads.values()],
                [counts[lane] for lane in heads],
                due_in,
                [head.share for head in heads.values()],
                [Priority.HIGH] * len(heads),
                self._handover.holder,
                [self._handover.seconds if lane in places else None for lane in heads],
                [head.request.bot_id for head in heads.values()],
                notes=[self._note(note) for note in notes],
                messages=self._rows(messages, counts),
            )
            rows = await self._database.fetch(self._add_query.sql, *arguments)
        except BaseException:
            self._handover.give_back(places)
            raise
        self._remember(notes)
        return await self._handover.take(places, counts, heads, rows)

    def _note(self, message: NewMessage) -> Row:
        request, conversation_id = message.request, message.conversation_id
        return {
            "conversation_id": conversation_id,
            "tenant_id": request.tenant_id,
            "channel_id": request.channel_id,
            "bot_id": request.bot_id,
            "sealed_chat_id": self._sealing.chat(request, conversation_id),
        }

    def _rows(self, messages: Sequence[NewMessage], counts: Counter[UUID]) -> Sequence[Row]:
        behind = counts.copy()
        rows = list[Row]()
        for message in messages:
            request = message.request
            place = None if request.rejection else behind[message.conversation_id]
            behind[message.conversation_id] -= place is not None
            rows.append(
                {
                    "tenant_id": request.tenant_id,
                    "message_id": message.message_id,
                    "conversation_id": message.conversation_id,
                    "behind": place,
                    "channel_id": request.channel_id,
                    "bot_id": request.bot_id,
                    "dedupe_id": message.dedupe_id,
                    "request": self._sealing.message(request.tenant_id, message.message_id, message.stored),
                    "chat": message.chat,
                    "traceparent": message.traceparent,
                    "tracestate": message.tracestate,
                    "rejection": request.rejection,
                    "kind": message.kind,
                }
            )
        return rows

    async def _find(self, dedupe_ids: Sequence[UUID]) -> dict[UUID, Added]:
        rows = await self._database.fetch(self._sql["find_duplicates"], dedupe_ids)
        return {row["dedupe_id"]: Added(row["message_id"], row["conversation_id"], duplicate=True) for row in rows}

    def _to_note(self, messages: Sequence[NewMessage]) -> list[NewMessage]:
        """One message of each conversation that this process has not noted in the last minute."""
        notes = {
            message.conversation_id: message
            for message in messages
            if (message.conversation_id, message.request.bot_id) not in self._noted
        }
        return list(notes.values())

    def _remember(self, notes: Sequence[NewMessage]) -> None:
        for note in notes:
            self._noted[note.conversation_id, note.request.bot_id] = None

    async def retry(
        self,
        request: Message,
        tenant_id: str,
        message_id: UUID,
        choose: Callable[[Unanswered], Requeue],
        traceparent: str,
        tracestate: str,
    ) -> None:
        """Queue a message again at the place that `choose` names, once per request. Raises MESSAGE_NOT_FOUND, and what
        `choose` raises."""
        named = (tenant_id, message_id)

        async def work(connection: "PoolConnection") -> RetryMessageResponse:
            lane = await connection.fetchrow(self._sql["lock_lane"], *named)
            message = await connection.fetchrow(self._sql["lock_message"], *named)
            if message is None:
                raise not_found("MESSAGE_NOT_FOUND", "message", "message_id", str(message_id))
            state, leased = MessageState(message["state"]), lane is not None and lane["leased"]
            if choose(Unanswered(state, bool(message["rejection"]), lane is not None, leased)) is Requeue.AT_HEAD:
                await connection.execute(self._sql["restart_head"], *named, traceparent, tracestate)
            else:
                assert lane is not None, "nothing is requeued that was never queued"
                share = share_of(message["bot_id"], message["channel_id"])
                again = ([lane["lane_id"]], [tenant_id], [1], [0.0], [share], [Priority.HIGH])
                await connection.execute(self._sql["requeue"], *again, *named, traceparent, tracestate)
            return RetryMessageResponse()

        await self._once(request, RetryMessageResponse, "RetryMessage", work)

    async def forget_dedupe_ids(self, limit: int = FORGOTTEN_AT_ONCE, age: timedelta = DEDUPE_FOR) -> bool:
        """Free up to `limit` dedupe ids older than a week, by the clock that has stamped them; False when fewer
        were left."""
        rows = await self._database.fetch(self._sql["forget_dedupe_ids"], age, limit)
        return len(rows) == limit


def _result(message: NewMessage, added: Added) -> Added:
    """The first of several messages with one dedupe id is new, the others are its duplicates."""
    if added.duplicate or added.message_id == message.message_id:
        return added
    return Added(added.message_id, added.conversation_id, duplicate=True)
