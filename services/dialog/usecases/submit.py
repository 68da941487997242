"""Take messages in."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest, SubmitMessageResponse

from parley_client.tracing import headers_of
from services.dialog.ports import Added, Inbox, NewMessage
from services.dialog.usecases.spans import tracer
from services.kernel.ids import conversation_id, uuid7
from services.runtime import crashpoints


class Submit:
    """Stores messages and queues them, once per dedupe key."""

    def __init__(self, inbox: Inbox, wake: Callable[[float], None]) -> None:
        """`wake` tells the workers in how many seconds something is due."""
        self._inbox = inbox
        self._wake = wake

    async def all(
        self, requests: Sequence[SubmitMessageRequest], contexts: Sequence[Context]
    ) -> list[SubmitMessageResponse | Exception]:
        """A response or an exception for each; `contexts` are their traces."""
        messages = [new_message(request) for request in requests]
        added = await self.add(messages, contexts)
        return [each if isinstance(each, Exception) else _response(each) for each in added]

    async def add(self, messages: Sequence[NewMessage], contexts: Sequence[Context]) -> Sequence[Added | Exception]:
        """Store messages, each with the trace of a PRODUCER span `send inbox`."""
        spans = []
        for message, context in zip(messages, contexts, strict=True):
            current = trace.get_current_span(context)
            span_context = current.get_span_context()
            if span_context.trace_flags.sampled:
                span = tracer().start_span("send inbox", context, SpanKind.PRODUCER, _attributes(message))
                spans.append(span)
                span_context = span.get_span_context()
            message.traceparent, message.tracestate = headers_of(span_context)
        try:
            crashpoints.reach("dialog.before_submit_commit")
            added = await self._inbox.add(messages)
            crashpoints.reach("dialog.after_submit_commit")
        finally:
            for span in spans:
                span.end()
        for due_in in {each.due_in for each in added if isinstance(each, Added) and not (each.duplicate or each.taken)}:
            self._wake(due_in)
        return added


def new_message(request: SubmitMessageRequest, *, chat: str = "") -> NewMessage:
    """A message with its ids. `chat` names the process that waits for its reply."""
    tenant_id, channel_id = request.tenant_id, request.channel_id
    stored = SubmitMessageRequest()
    stored.CopyFrom(request)
    stored.ClearField("dedupe_key")
    return NewMessage(
        message_id=uuid7(),
        # With the tenant in it, so that one tenant's call never reaches another's lane.
        conversation_id=conversation_id(f"{tenant_id}/{channel_id}", request.chat_id),
        dedupe_id=dedupe_id(tenant_id, channel_id, request.dedupe_key),
        request=request,
        stored=stored.SerializeToString(),
        chat=chat,
    )


def dedupe_id(tenant_id: str, channel_id: str, dedupe_key: str) -> UUID:
    """Stands for a dedupe key of a tenant's channel: 128 bits of BLAKE2b. None of the parts can hold a NUL."""
    digest = blake2b(f"{tenant_id}\0{channel_id}\0{dedupe_key}".encode(), digest_size=16)
    return UUID(bytes=digest.digest())


def _attributes(message: NewMessage) -> dict[str, str]:
    return {
        "messaging.operation.name": "send",
        "messaging.destination.name": "inbox",
        "parley.tenant_id": message.request.tenant_id,
        "parley.message_id": str(message.message_id),
        "parley.conversation_id": str(message.conversation_id),
    }


def _response(added: Added) -> SubmitMessageResponse:
    return SubmitMessageResponse(
        message_id=str(added.message_id), duplicate=added.duplicate, conversation_id=str(added.conversation_id)
    )
