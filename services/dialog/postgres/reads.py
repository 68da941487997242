"""What operators and callers read: messages, conversations, orders, the queue."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1.usage_pb2 import ModelUsage
from parley.dialog.v1 import dialog_pb2, order_pb2

from services.dialog.domain.items import TAKEN_BY_OPERATOR, ItemKind
from services.dialog.domain.turns import MessageState, Plan
from services.dialog.domain.wait_reason import QueuePlace, why
from services.dialog.ports import ReplyReport, Stored, Wanted
from services.dialog.postgres.database import Database, columns
from services.dialog.postgres.listing import SQL, Listing
from services.dialog.postgres.records import from_json, unpack_plan
from services.dialog.postgres.sealing import Sealing
from services.runtime import crashpoints
from services.runtime.crypto import CannotOpen
from services.runtime.logs import describe, get_logger
from services.runtime.partitions import extent
from services.runtime.read_pool import ReadPool

_RETURNED = dialog_pb2.REPLY_STATE_RETURNED

UNREADABLE = "UNREADABLE: what is stored cannot be opened with the keys that are known here"
"""Shown as the error of a message whose body or plan does not open."""

log = get_logger(__name__)


class PostgresReads:
    """Reads, and what delivery reports of replies. Single messages are read on the service's own connections, since
    callers of Chat wait for them; pages and counts on those for operators."""

    def __init__(self, database: Database, pool: ReadPool, sealing: Sealing) -> None:
        self._database = database
        self._listing = Listing(pool)
        self._sealing = sealing

    async def message(self, tenant_id: str, message_id: UUID) -> Stored | None:
        """One message with the plan that answered it."""
        row = await self._database.fetchrow(SQL["get_message"], tenant_id, message_id)
        if row is None:
            return None
        replies = await self._database.fetch(SQL["replies"], [row["turn_id"]]) if row["plan"] is not None else []
        message, plan = self._message(row, {reply["index"]: reply for reply in replies})
        return Stored(message, plan, row["traceparent"], row["tracestate"])

    async def messages(
        self, wanted: Wanted, *, older_than: UUID | None = None, limit: int
    ) -> tuple[list[dialog_pb2.Message], UUID | None]:
        """Messages, newest first, and where the next page begins; None on the last."""
        found = await self._listing.messages(wanted, older_than, limit)
        rows = await self._listing.message_rows(wanted.tenant_id, found.message_ids)
        turns = [row["turn_id"] for row in rows if row["plan"] is not None]
        replies: dict[UUID, dict[int, asyncpg.Record]] = {}
        for reply in await self._listing.replies(turns) if turns else ():
            replies.setdefault(reply["turn_id"], {})[reply["index"]] = reply
        return [self._message(row, replies.get(row["turn_id"], {}))[0] for row in rows], found.older_than

    async def conversations(
        self, tenant_id: str, *, channel_id: str | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[datetime, dialog_pb2.Conversation]]:
        """Conversations, the last active first, each with the time by which it is ordered."""
        rows = await self._listing.conversations(tenant_id, channel_id, after, limit)
        return [(row["active_at"], _conversation(row, self._chat_id(row))) for row in rows]

    async def queue_stats(self, tenant_id: str) -> dialog_pb2.GetQueueStatsResponse:
        """The state of the queue of a tenant, or of all for an empty id."""
        return await self._listing.queue_stats(tenant_id)

    async def orders(
        self, tenant_id: str, *, conversation_id: UUID | None, bot_id: str | None, older_than: UUID | None, limit: int
    ) -> list[order_pb2.Order]:
        """Orders, newest first."""
        return [
            _order(row) for row in await self._listing.orders(tenant_id, conversation_id, bot_id, older_than, limit)
        ]

    async def record(self, outcomes: Sequence[ReplyReport]) -> None:
        """Note what became of replies; several of one reply in their order."""
        waiting = list(outcomes)
        while waiting:
            now: dict[tuple[UUID, int], ReplyReport] = {}
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
            await self._database.fetch(SQL["record_outcomes"], *columns(rows, 7), *extent([row[1] for row in rows]))
            crashpoints.reach("dialog.after_outcome_commit")
            waiting = later

    def _chat_id(self, row: asyncpg.Record) -> str:
        """The id of a conversation's chat; "" when it does not open, so that operators see the rest."""
        sealed = row["sealed_chat_id"]
        if sealed is None:  # nobody has written there since the version before
            return str(row["chat_id"])
        try:
            return self._sealing.open_chat(row["tenant_id"], row["conversation_id"], sealed)
        except CannotOpen as error:
            about = {"conversation_id": str(row["conversation_id"]), "tenant_id": row["tenant_id"]}
            log.error("a stored chat id cannot be read", **about, error=describe(error), alert=True)
            return ""

    def _message(self, row: asyncpg.Record, known: dict[int, asyncpg.Record]) -> tuple[dialog_pb2.Message, Plan | None]:
        """A message and its plan. What does not open is left out, and said, so that operators see the rest."""
        message = _message(row)
        try:
            body = self._sealing.open_message(row["tenant_id"], row["message_id"], row["request"])
            if row["kind"] == ItemKind.MESSAGE:
                _add_body(message, dialog_pb2.SubmitMessageRequest.FromString(body))
            plan = self._plan_of(row)
        except Exception as error:
            about = {"message_id": message.message_id, "tenant_id": message.tenant_id}
            log.error("a stored message cannot be read", **about, error=describe(error), alert=True)
            message.last_error = UNREADABLE if isinstance(error, CannotOpen) else f"UNREADABLE: {describe(error)}"
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
    taken = row["state"] == MessageState.COMPLETED and row["terminal_reason"] == TAKEN_BY_OPERATOR
    return dialog_pb2.Message(
        waiting=why(_place(row)),
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
        terminal_reason="" if taken else row["terminal_reason"],
        outcome=dialog_pb2.TURN_OUTCOME_TAKEN_BY_OPERATOR if taken else dialog_pb2.TURN_OUTCOME_UNSPECIFIED,
        rejection=row["rejection"],
        received_at=_timestamp(row["received_at"]),
        completed_at=_timestamp(row["completed_at"]),
        trace_id=row["traceparent"][3:35],
    )


def _place(row: asyncpg.Record) -> QueuePlace:
    return QueuePlace(
        state=row["state"],
        seq=row["seq"],
        done_seq=row["lane_done_seq"] or 0,
        due_at=row["lane_due_at"],
        lease_until=row["lane_lease_until"],
        parked=row["lane_parked"],
        planned=row["plan"] is not None,
        last_error=row["last_error"],
        now=row["now"],
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
    for index, content in enumerate(plan.decided.replies):
        reply = message.replies.add(content=content, state=dialog_pb2.REPLY_STATE_QUEUED)
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


def _conversation(row: asyncpg.Record, chat_id: str) -> dialog_pb2.Conversation:
    return dialog_pb2.Conversation(
        conversation_id=str(row["conversation_id"]),
        tenant_id=row["tenant_id"],
        channel_id=row["channel_id"],
        bot_id=row["bot_id"],
        chat_id=chat_id,
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
