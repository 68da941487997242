"""`POST /v1/chat/send` and `/v1/chat/stream`: the assistant, answered in the same call."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import msgspec
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import dialog_pb2, tenant_pb2

from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from services.edge import spans
from services.edge.api_keys import ApiKeys
from services.edge.bodies import Bodies
from services.edge.channels import ChannelMirror
from services.edge.problems import Problem, from_call_error
from services.edge.reading import clean, decode
from services.kernel.ids import uuid7
from services.runtime.crashpoints import reach
from services.runtime.tracing.spans import current


class Body(msgspec.Struct):
    """What a caller sends: exactly one of the two ids, and the message."""

    message: str
    telegram_id: int | None = None
    user_id: str | None = None


_decoder = msgspec.json.Decoder(Body)


@dataclass(frozen=True)
class Chat:
    """Serves both routes. `timeout` is in seconds."""

    api_keys: ApiKeys
    channels: ChannelMirror
    dialog: DialogClient
    bodies: Bodies
    timeout: float

    async def send(self, request: Request) -> Response:
        """Answers with the reply, as JSON."""
        with current(spans.start("POST /v1/chat/send", request.scope["headers"])) as span:
            try:
                response = await self._send(request)
            except Problem as problem:
                response = problem.response()
            spans.note_status(span, response.status_code)
            return response

    async def stream(self, request: Request) -> Response:
        """Answers with server-sent events. A failure before the first text is a plain error with its status."""
        span = spans.start("POST /v1/chat/stream", request.scope["headers"])
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                events = self._events(await self._request(request))
                first = await _first(events)
        except Exception as error:
            spans.note_status(span, error.status if isinstance(error, Problem) else 500)
            span.end()
            if isinstance(error, Problem):
                return error.response()
            raise
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_sse(first, events, span), 200, headers, "text/event-stream")

    async def _send(self, request: Request) -> Response:
        async with aclosing(self._events(await self._request(request))) as events:
            async for event in events:
                if event.HasField("final"):
                    reach("edge.after_chat")
                    with suppress(Problem):  # read to its end, so that the call is finished rather than cancelled
                        await anext(events, None)
                    return Response(msgspec.json.encode(_final(event.final)), media_type="application/json")
        raise Problem(502, "MODEL_UNAVAILABLE", "The answer ended before it was complete; send the message again.")

    async def _request(self, request: Request) -> dialog_pb2.ChatRequest:
        key, address = request.headers.get("x-api-key", ""), request.client.host if request.client else ""
        api_key = await self.api_keys.check(key, tenant_pb2.API_KEY_SCOPE_CHAT, address)
        body = _parse(await self.bodies.read(request.scope, request.receive))
        entry = await self.channels.find(api_key.channel_id)
        channel = entry.channel
        if channel.tenant_id != api_key.tenant_id or channel.provider != channel_pb2.PROVIDER_API:
            raise Problem(404, "CHANNEL_NOT_FOUND", "The API key's channel is not a REST API channel any more.")
        if not channel.enabled:
            raise Problem(409, "CHANNEL_DISABLED", "The API key's channel is disabled.")
        identity = _identity(body)
        span = trace.get_current_span()
        span.set_attribute("parley.tenant_id", channel.tenant_id)
        return dialog_pb2.ChatRequest(
            tenant_id=channel.tenant_id,
            channel_id=channel.channel_id,
            bot_id=channel.bot_id,
            sender=identity_pb2.Sender(identity=identity),
            content=content_pb2.InboundContent(text=body.message),
            request_id=_request_id(request, api_key, identity),
        )

    async def _events(self, chat: dialog_pb2.ChatRequest) -> AsyncGenerator[dialog_pb2.ChatResponse]:
        """Yields what the caller is to see. Raises Problem."""
        try:
            async with aclosing(self.dialog.chat(chat, timeout=self.timeout)) as events:
                async for event in events:
                    if event.HasField("accepted"):
                        trace.get_current_span().set_attribute("parley.message_id", event.accepted.message_id)
                    else:
                        yield event
        except CallError as error:
            if error.reason == "REQUEST_ID_REUSED":
                detail = "This Idempotency-Key was used for another message; give each message its own."
                raise Problem(409, error.reason, detail, "Idempotency-Key") from None
            raise from_call_error(error) from None


def _parse(raw: bytes) -> Body:
    body = decode(_decoder, raw, not_json=422)
    body.message = clean(body.message)
    if not body.message.strip():
        raise Problem(422, "INVALID_FIELD", "message: is empty", "message")
    if (body.telegram_id is None) == (body.user_id is None):
        raise Problem(422, "INVALID_FIELD", "Give exactly one of telegram_id and user_id.", "telegram_id")
    if body.telegram_id is not None and not -(2**63) <= body.telegram_id < 2**63:
        raise Problem(422, "INVALID_FIELD", "telegram_id: does not fit 64 bits", "telegram_id")
    if body.user_id is not None:
        body.user_id = clean(body.user_id).strip()  # context does so too, and each person has one conversation
    if body.user_id is not None and not 1 <= len(body.user_id) <= 128:
        raise Problem(422, "INVALID_FIELD", "user_id: has 1 to 128 characters", "user_id")
    if len(body.message) > 65536:
        raise Problem(422, "INVALID_FIELD", "message: is longer than 65,536 characters", "message")
    return body


def _identity(body: Body) -> identity_pb2.Identity:
    if body.telegram_id is not None:
        return identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_TELEGRAM, value=str(body.telegram_id))
    return identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_EXTERNAL, value=body.user_id or "")


def _request_id(request: Request, api_key: tenant_pb2.ApiKey, identity: identity_pb2.Identity) -> str:
    """The caller's `Idempotency-Key`, made unique to the API key and the person; a new id without one."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return str(uuid7())
    if not 1 <= len(given) <= 255:
        raise Problem(422, "INVALID_FIELD", "Idempotency-Key: has 1 to 255 characters", "Idempotency-Key")
    parts = (api_key.tenant_id, api_key.channel_id, str(identity.kind), identity.value, given)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def _final(final: dialog_pb2.ChatResponse.Final) -> dict[str, object]:
    return {
        "message_id": final.message_id,
        "reply": final.reply,
        "tokens_used": final.usage.input_tokens + final.usage.output_tokens,
        "remaining_today": final.remaining_today if final.HasField("remaining_today") else None,
    }


async def _sse(
    first: dialog_pb2.ChatResponse, rest: AsyncIterator[dialog_pb2.ChatResponse], span: trace.Span
) -> AsyncIterator[bytes]:
    status = 200
    try:
        yield _event(first)
        async for event in rest:
            yield _event(event)
    except Problem as problem:
        status = problem.status
        yield b"event: error\ndata: " + problem.response().body + b"\n\n"
    finally:
        spans.note_status(span, status)
        span.end()


def _event(event: dialog_pb2.ChatResponse) -> bytes:
    which = event.WhichOneof("event")
    if which == "delta":
        return b"event: delta\ndata: " + msgspec.json.encode({"text": event.delta.text}) + b"\n\n"
    if which == "final":
        return b"event: done\ndata: " + msgspec.json.encode(_final(event.final)) + b"\n\n"
    return b"event: reset\ndata: {}\n\n"


async def _first(events: AsyncIterator[dialog_pb2.ChatResponse]) -> dialog_pb2.ChatResponse:
    async for event in events:
        return event
    raise Problem(502, "MODEL_UNAVAILABLE", "The answer ended before it began; send the message again.")
