"""Look at messages, conversations, orders and the queue; answer a message anew; note what became of replies."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple, Protocol
from uuid import UUID

from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from parley.dialog.v1 import dialog_pb2, order_pb2

from parley_client.tracing import context_from, headers_of
from services.dialog.domain.turns import MessageState
from services.dialog.ports import ReplyReport, Stored, Wanted
from services.dialog.usecases.spans import tracer
from services.kernel.errors import invalid_field, not_found, wrong_state
from services.runtime import pages

PAGE = 50


class Reads(Protocol):
    async def message(self, tenant_id: str, message_id: UUID) -> Stored | None: ...

    async def messages(
        self, wanted: Wanted, *, older_than: UUID | None, limit: int
    ) -> tuple[list[dialog_pb2.Message], UUID | None]: ...

    async def conversations(
        self, tenant_id: str, *, channel_id: str | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[datetime, dialog_pb2.Conversation]]: ...

    async def queue_stats(self, tenant_id: str) -> dialog_pb2.GetQueueStatsResponse: ...

    async def orders(
        self, tenant_id: str, *, conversation_id: UUID | None, bot_id: str | None, older_than: UUID | None, limit: int
    ) -> list[order_pb2.Order]: ...

    async def record(self, outcomes: Sequence[ReplyReport]) -> None: ...


class Unanswered(NamedTuple):
    """A message that an operator wants answered, as it is stored. `queued`: it has had a place in a lane; `leased`: a
    worker has that lane now."""

    state: MessageState
    rejected: bool
    queued: bool
    leased: bool


class Requeue(Enum):
    """Where a message that is answered again waits: where it is, at the head of its lane, or behind all others."""

    AT_HEAD = 1
    AT_END = 2


Retry = Callable[[Message, str, UUID, Callable[[Unanswered], Requeue], str, str], Awaitable[None]]
"""Queues a message again, once per request: request, tenant, message, the choice of its place, traceparent, tracestate.
Raises MESSAGE_NOT_FOUND and what the choice raises."""


class Messages:
    """The use cases of DialogService that read, and those of operators and delivery."""

    def __init__(self, reads: Reads, retry: Retry, wake: Callable[[], None]) -> None:
        self._reads = reads
        self._retry = retry
        self._wake = wake

    async def get(self, tenant_id: str, message_id: str) -> dialog_pb2.Message:
        """Raises MESSAGE_NOT_FOUND."""
        return (await self._stored(tenant_id, message_id)).message

    async def _stored(self, tenant_id: str, message_id: str) -> Stored:
        stored = await self._reads.message(tenant_id, UUID(message_id))
        if stored is None:
            raise not_found("MESSAGE_NOT_FOUND", "message", "message_id", message_id)
        return stored

    async def list(self, request: dialog_pb2.ListMessagesRequest) -> dialog_pb2.ListMessagesResponse:
        filters = (request.tenant_id, tuple(request.states), request.conversation_id, request.channel_id)
        size = request.page_size or PAGE
        wanted = Wanted(
            request.tenant_id,
            _uuid("conversation_id", request.conversation_id),
            request.channel_id or None,
            tuple(request.states),
        )
        older_than = _position(request.page_token, "ListMessages", filters)
        found, further = await self._reads.messages(wanted, older_than=older_than, limit=size)
        response = dialog_pb2.ListMessagesResponse(messages=found)
        if further is not None:
            response.next_page_token = pages.encode("ListMessages", filters, [str(further)])
        return response

    async def retry(self, request: dialog_pb2.RetryMessageRequest) -> dialog_pb2.RetryMessageResponse:
        """Queue a message again, in a new trace that is linked to its old one."""
        before = await self._stored(request.tenant_id, request.message_id)
        earlier = trace.get_current_span(context_from(before.traceparent, before.tracestate)).get_span_context()
        links = [Link(each) for each in (earlier, trace.get_current_span().get_span_context()) if each.is_valid]
        attributes = {"parley.tenant_id": request.tenant_id, "parley.message_id": request.message_id}
        span = tracer().start_span("send inbox", Context(), SpanKind.PRODUCER, attributes, links)
        try:
            headers = headers_of(span.get_span_context())
            await self._retry(request, request.tenant_id, UUID(request.message_id), place_of, *headers)
        finally:
            span.end()
        self._wake()
        return dialog_pb2.RetryMessageResponse(message=await self.get(request.tenant_id, request.message_id))

    async def conversations(self, request: dialog_pb2.ListConversationsRequest) -> dialog_pb2.ListConversationsResponse:
        filters = (request.tenant_id, request.channel_id)
        position = pages.decode(request.page_token, "ListConversations", filters)
        after = None
        if position:
            after = (datetime.fromtimestamp(int(position[0] or 0) / 1e6, UTC), UUID(str(position[1])))
        size = request.page_size or PAGE
        rows = await self._reads.conversations(
            request.tenant_id, channel_id=request.channel_id or None, after=after, limit=size + 1
        )
        response = dialog_pb2.ListConversationsResponse(conversations=[row for _, row in rows[:size]])
        if len(rows) > size:
            active_at, last = rows[size - 1]
            position = [round(active_at.timestamp() * 1e6), last.conversation_id]
            response.next_page_token = pages.encode("ListConversations", filters, position)
        return response

    async def queue_stats(self, tenant_id: str) -> dialog_pb2.GetQueueStatsResponse:
        return await self._reads.queue_stats(tenant_id)

    async def orders(self, request: order_pb2.ListOrdersRequest) -> order_pb2.ListOrdersResponse:
        filters = (request.tenant_id, request.conversation_id, request.bot_id)
        size = request.page_size or PAGE
        found = await self._reads.orders(
            request.tenant_id,
            conversation_id=_uuid("conversation_id", request.conversation_id),
            bot_id=request.bot_id or None,
            older_than=_position(request.page_token, "ListOrders", filters),
            limit=size + 1,
        )
        response = order_pb2.ListOrdersResponse(orders=found[:size])
        if len(found) > size:
            response.next_page_token = pages.encode("ListOrders", filters, [found[size - 1].order_id])
        return response

    async def record(
        self, requests: Sequence[dialog_pb2.RecordOutcomeRequest]
    ) -> Sequence[dialog_pb2.RecordOutcomeResponse | Exception]:
        """Note what became of replies; one that answers no message is of no interest here."""
        results: list[dialog_pb2.RecordOutcomeResponse | Exception] = []
        outcomes = []
        for request in requests:
            try:
                if request.message_id:
                    outcomes.append(_outcome(request))
                results.append(dialog_pb2.RecordOutcomeResponse())
            except ValueError:
                results.append(invalid_field("message_id", "is not a UUID"))
        if outcomes:
            await self._reads.record(outcomes)
        return results


def place_of(message: Unanswered) -> Requeue:
    """Where a message waits that is answered again. Raises WRONG_STATE for one that is not FAILED or TERMINAL."""
    state, why = message.state, ""
    if message.rejected:
        why = "it was rejected"
    elif not message.queued or state not in (MessageState.FAILED, MessageState.TERMINAL):
        why = f"it is {state.name}"
    elif state is MessageState.FAILED and message.leased:
        state, why = MessageState.PROCESSING, "a worker is trying again just now"
    if why:
        raise wrong_state(f"Only a FAILED or TERMINAL message can be retried; {why}.", state.name)
    return Requeue.AT_HEAD if state is MessageState.FAILED else Requeue.AT_END


def _outcome(request: dialog_pb2.RecordOutcomeRequest) -> ReplyReport:
    return ReplyReport(
        tenant_id=request.tenant_id,
        message_id=UUID(request.message_id),
        delivery_id=UUID(request.delivery_id),
        index=request.reply_index,
        state=request.state,
        at=request.at.ToDatetime(tzinfo=UTC),
        error=request.error.replace("\0", ""),
    )


def _uuid(field: str, value: str) -> UUID | None:
    try:
        return UUID(value) if value else None
    except ValueError:
        raise invalid_field(field, "is not a UUID") from None


def _position(token: str, method: str, filters: object) -> UUID | None:
    position = pages.decode(token, method, filters)
    return UUID(str(position[0])) if position else None
