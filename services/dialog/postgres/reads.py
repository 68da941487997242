"""What operators and callers read: messages, conversations, orders, the queue."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1.content_pb2 import OutboundContent
from parley.common.v1.usage_pb2 import ModelUsage
from parley.dialog.v1 import dialog_pb2, order_pb2

from services.dialog.postgres.database import Database, columns
from services.dialog.postgres.sealing import Sealing
from services.dialog.records import from_json, unpack_plan
from services.dialog.turns import Plan, State
from services.dialog.usecases.ports import Outcome, Stored
from services.runtime import crashpoints
from services.runtime.crypto import CannotOpen
from services.runtime.logs import describe, get_logger
from services.runtime.queries import load_queries

_NEWEST = UUID(int=2**128 - 1)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_RETURNED = dialog_pb2.REPLY_STATE_RETURNED

UNREADABLE = "UNREADABLE: what is stored cannot be opened with the keys that are known here"
"""Shown as the error of a message whose body or plan does not open."""

log = get_logger(__name__)


class PostgresReads:
    """Reads, and what delivery reports of replies."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        path = Path(__file__).with_name("reads.sql")
        self._sql = load_queries(path, message=load_queries(path)["message"])
        self._database = database
        self._sealing = sealing

    async def message(self, tenant_id: str, message_id: UUID) -> Stored | None:
        """One message with the plan that answered it."""
        row = await self._database.fetchrow(self._sql["get_message"], tenant_id, message_id)
        if row is None:
            return None
        ((message, plan),) = await self._messages([row])
        return Stored(message, plan, row["traceparent"], row["tracestate"])

    async def messages(
        self,
        tenant_id: str,
        *,
        states: Sequence[int] = (),
        conversation_id: UUID | None = None,
        channel_id: str | None = None,
        older_than: UUID | None = None,
        limit: int,
    ) -> list[dialog_pb2.Message]:
        """Messages, newest first."""
        few = bool(states) and State.COMPLETED not in states
        query = self._sql["list_open" if few else "list_messages"]
        filters = (conversation_id, channel_id, list(states) or None)
        rows = await self._database.fetch(query, tenant_id, older_than or _NEWEST, *filters, limit)
        return [message for message, _ in await self._messages(rows)]

    async def conversations(
        self, tenant_id: str, *, channel_id: str | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[datetime, dialog_pb2.Conversation]]:
        """Conversations, the last active first, each with the time by which it is ordered."""
        at, conversation_id = after or (_LATEST, _NEWEST)
        rows = await self._database.fetch(
            self._sql["list_conversations"], tenant_id, at, conversation_id, channel_id, limit
        )
        return [(row["active_at"], _conversation(row)) for row in rows]

    async def queue_stats(self, tenant_id: str) -> dialog_pb2.GetQueueStatsResponse:
        """The state of the queue of a tenant, or of all for an empty id."""
        row = await self._database.fetchrow(self._sql["queue_stats"], tenant_id)
        assert row is not None
        oldest: timedelta | None = row["oldest_waiting"]
        return dialog_pb2.GetQueueStatsResponse(
            waiting=max(0, row["pending"] - row["leased"] - row["failed"]),
            leased_lanes=row["leased"],
            failed=row["failed"],
            dead=row["dead"],
            oldest_waiting=None if oldest is None else _duration(oldest),
        )

    async def orders(
        self, tenant_id: str, *, conversation_id: UUID | None, bot_id: str | None, older_than: UUID | None, limit: int
    ) -> list[order_pb2.Order]:
        """Orders, newest first."""
        rows = await self._database.fetch(
            self._sql["list_orders"], tenant_id, older_than or _NEWEST, conversation_id, bot_id, limit
        )
        return [_order(row) for row in rows]

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Note what became of replies; several of one reply in their order."""
        waiting = list(outcomes)
        while waiting:
            now: dict[tuple[UUID, int], Outcome] = {}
            later = []
            for outcome in waiting:
                key = (outcome.message_id, outcome.index)
                if key in now:
                    later.append(outcome)
                else:
                    now[key] = outcome
            rows = [
                (each.tenant_id, each.message_id, each.delivery_id, each.index, each.state, each.at, each.error)
                for each in now.values()
            ]
            crashpoints.reach("dialog.before_outcome_commit")
            await self._database.fetch(self._sql["record_outcomes"], *columns(rows, 7))
            crashpoints.reach("dialog.after_outcome_commit")
            waiting = later

    async def _messages(self, rows: Sequence[asyncpg.Record]) -> list[tuple[dialog_pb2.Message, Plan | None]]:
        turns = [row["turn_id"] for row in rows if row["plan"] is not None]
        replies: dict[UUID, dict[int, asyncpg.Record]] = {}
        if turns:
            for reply in await self._database.fetch(self._sql["replies"], turns):
                replies.setdefault(reply["turn_id"], {})[reply["index"]] = reply
        return [self._message(row, replies.get(row["turn_id"], {})) for row in rows]

    def _message(self, row: asyncpg.Record, known: dict[int, asyncpg.Record]) -> tuple[dialog_pb2.Message, Plan | None]:
        """A message and its plan. What does not open is left out, and said, so that operators see the rest."""
        message = _message(row)
        try:
            body = self._sealing.open_message(row["tenant_id"], row["message_id"], row["request"])
            _add_body(message, dialog_pb2.SubmitMessageRequest.FromString(body))
            plan = self._plan_of(row)
        except CannotOpen as error:
            about = {"message_id": message.message_id, "tenant_id": message.tenant_id}
            log.error("a stored message cannot be opened", **about, error=describe(error), alert=True)
            message.last_error = UNREADABLE
            return message, None
        if plan is not None:
            _add_turn(message, row, plan, known)
        return message, plan

    def _plan_of(self, row: asyncpg.Record) -> Plan | None:
        turn_id = row["turn_id"]
        if row["plan"] is None:
            return None
        plan = self._sealing.open_plan(row["tenant_id"], turn_id, row["plan"])
        return unpack_plan(plan, turn_id=turn_id, first_seq=row["first_seq"], last_seq=row["last_seq"])


def _message(row: asyncpg.Record) -> dialog_pb2.Message:
    return dialog_pb2.Message(
        message_id=str(row["message_id"]),
        tenant_id=row["tenant_id"],
        channel_id=row["channel_id"],
        bot_id=row["bot_id"],
        conversation_id=str(row["conversation_id"]),
        contact_id=str(row["contact_id"] or ""),
        state=row["shown_state"],
        attempts=row["attempts"],
        last_error=row["last_error"],
        last_error_at=_timestamp(row["last_error_at"]),
        terminal_reason=row["terminal_reason"],
        rejection=row["rejection"],
        received_at=_timestamp(row["received_at"]),
        completed_at=_timestamp(row["completed_at"]),
        trace_id=row["traceparent"][3:35],
    )


def _add_body(message: dialog_pb2.Message, request: dialog_pb2.SubmitMessageRequest) -> None:
    message.provider_message_id = request.provider_message_id
    message.sender.CopyFrom(request.sender)
    message.content.CopyFrom(request.content)


def _add_turn(message: dialog_pb2.Message, row: asyncpg.Record, plan: Plan, known: dict[int, asyncpg.Record]) -> None:
    message.turn_id = str(plan.turn_id)
    message.outcome = row["outcome"]
    _set(message.started_at, row["started_at"])
    _set(message.generated_at, row["generated_at"])
    message.usage.CopyFrom(_usage(row))
    sent = []
    for index, text in enumerate(plan.decided.replies):
        reply = message.replies.add(content=OutboundContent(text=text), state=dialog_pb2.REPLY_STATE_QUEUED)
        if row["chat"]:
            reply.state = _RETURNED
        if index in known:
            reply.delivery_id = str(known[index]["delivery_id"] or "")
            reply.state = known[index]["state"]
            reply.error = known[index]["error"]
            if known[index]["sent_at"] is not None:
                _set(reply.sent_at, known[index]["sent_at"])
                sent.append(known[index]["sent_at"])
    if sent and len(sent) == len(plan.decided.replies):
        _set(message.sent_at, max(sent))


def _conversation(row: asyncpg.Record) -> dialog_pb2.Conversation:
    return dialog_pb2.Conversation(
        conversation_id=str(row["conversation_id"]),
        tenant_id=row["tenant_id"],
        channel_id=row["channel_id"],
        bot_id=row["bot_id"],
        chat_id=row["chat_id"],
        contact_id=str(row["contact_id"] or ""),
        message_count=row["message_count"],
        pending=row["pending"],
        created_at=_timestamp(row["created_at"]),
        last_message_at=_timestamp(row["last_message_at"]),
    )


def _order(row: asyncpg.Record) -> order_pb2.Order:
    order = order_pb2.Order(
        order_id=str(row["order_id"]),
        tenant_id=row["tenant_id"],
        bot_id=row["bot_id"],
        channel_id=row["channel_id"],
        conversation_id=str(row["conversation_id"]),
        contact_id=str(row["contact_id"] or ""),
        form_id=row["form_id"],
        created_at=_timestamp(row["created_at"]),
        message_id=str(row["message_id"]),
    )
    order.fields.update(from_json(row["fields"]))
    return order


def _usage(row: asyncpg.Record) -> ModelUsage:
    return ModelUsage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        price_micros_usd=row["price_micros_usd"],
        calls=row["model_calls"],
    )


def _set(field: Timestamp, at: datetime) -> None:
    field.FromDatetime(at)


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def _duration(value: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(value)
    return made
