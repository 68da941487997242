"""Webhooks in: authentic, parsed, stored by dialog, and only then answered with 200."""

from urllib.parse import parse_qs

import msgspec
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_client.delivery import DeliveryClient
from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from parley_client.tracing import links_from
from services.edge.bodies import Bodies
from services.edge.channels import ChannelMirror, Entry
from services.edge.guesses import Guesses
from services.edge.problems import Problem, from_call_error
from services.edge.signatures import secret_matches
from services.edge.translate import chat2desk
from services.runtime import crashpoints
from services.runtime.tracing.spans import current

_tracer = trace.get_tracer("parley.edge")


class Chat2DeskWebhook:
    """`POST /webhooks/chat2desk/{channel_id}`, as an ASGI application: the hot path of the edge."""

    def __init__(
        self,
        channels: ChannelMirror,
        dialog: DialogClient,
        delivery: DeliveryClient,
        bodies: Bodies,
        guesses: Guesses,
        *,
        submit_timeout: float,
        default_channel: str = "",
    ) -> None:
        """`submit_timeout` is in seconds; `default_channel` is for the path without an id."""
        self._channels = channels
        self._dialog = dialog
        self._delivery = delivery
        self._bodies = bodies
        self._guesses = guesses
        self._submit_timeout = submit_timeout
        self._default_channel = default_channel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = "POST /webhooks/chat2desk/{channel_id}"
        with current(_tracer.start_span(route, kind=SpanKind.SERVER, links=_links(scope))) as span:
            try:
                response = await self._answer(scope, receive)
            except Problem as problem:
                response = problem.response()
                if span.is_recording():
                    span.set_attribute("error.type", problem.reason)
            if span.is_recording():
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", "/webhooks/chat2desk/{channel_id}")
                span.set_attribute("http.response.status_code", response.status_code)
                if response.status_code >= 500:
                    span.set_status(StatusCode.ERROR)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            raise Problem(405, "WRONG_HTTP_METHOD", "Webhooks are sent with POST.")
        address = scope["client"][0]
        entry = await self._channels.find(scope["path_params"].get("channel_id") or self._default_channel, address)
        if entry.channel.provider != channel_pb2.PROVIDER_CHAT2DESK:
            raise Problem(404, "CHANNEL_NOT_FOUND", "This channel is not a Chat2Desk channel.")
        if not secret_matches(entry.webhook_secret, *_shown_secrets(scope)):
            detail = "The webhook secret is missing or wrong; give it as `?secret=` or header `X-Webhook-Secret`."
            raise self._guesses.failed(address, "webhook_secret", Problem(401, "INVALID_SIGNATURE", detail))
        body = await self._bodies.read(scope, receive)
        return await self._take(entry, chat2desk.translate(entry.channel, body))

    async def _take(self, entry: Entry, meant: chat2desk.Translated) -> Response:
        if isinstance(meant, chat2desk.Ignored):
            return _stored(None, False)
        try:
            if isinstance(meant, delivery_pb2.ReportStatusRequest):
                status = await self._delivery.report_status(meant, timeout=self._submit_timeout)
                return _stored(None, status.duplicate)
            if not entry.channel.enabled and not meant.rejection:
                meant.rejection = dialog_pb2.REJECTION_REASON_CHANNEL_DISABLED
            answer = await submit(self._dialog, meant, self._submit_timeout)
        except CallError as error:
            raise from_call_error(error) from None
        return _stored(answer.message_id, answer.duplicate)


async def submit(
    dialog: DialogClient, request: dialog_pb2.SubmitMessageRequest, timeout: float
) -> dialog_pb2.SubmitMessageResponse:
    """Store a message. When this returns, it is committed. Raises CallError."""
    crashpoints.reach("edge.before_submit")
    answer = await dialog.submit_message(request, timeout=timeout)
    crashpoints.reach("edge.after_submit")
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("parley.tenant_id", request.tenant_id)
        span.set_attribute("parley.channel_id", request.channel_id)
        span.set_attribute("parley.message_id", answer.message_id)
        span.set_attribute("parley.duplicate", answer.duplicate)
    return answer


def _links(scope: Scope) -> list[trace.Link]:
    """To the sender's own span, should it send one: its trace is not ours to write into."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")
    return links_from(given)


def _shown_secrets(scope: Scope) -> list[str | None]:
    shown: list[str | None] = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"x-webhook-secret"
    ]
    query: bytes = scope["query_string"]
    if b"secret=" in query:
        shown += parse_qs(query.decode("latin-1")).get("secret", [])
    return shown


def _stored(message_id: str | None, duplicate: bool) -> Response:
    body = msgspec.json.encode({"message_id": message_id, "duplicate": duplicate})
    return Response(body, media_type="application/json")
