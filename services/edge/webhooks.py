"""Webhooks in: authentic, translated, stored, and only then answered with 200."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from opentelemetry import trace
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_client.delivery import DeliveryClient
from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from services.edge import spans
from services.edge.bodies import Bodies
from services.edge.channels import ChannelMirror, Entry
from services.edge.failure_limit import FailureLimit
from services.edge.problems import Problem, from_call_error
from services.edge.providers.base import Event, Head, Provider, Stored
from services.runtime import crashpoints
from services.runtime.tracing.spans import current


@dataclass(frozen=True)
class Events:
    """Stores what happened: messages in dialog, what became of replies in delivery. `timeout` is in seconds."""

    dialog: DialogClient
    delivery: DeliveryClient
    timeout: float

    async def store(self, event: Event, *, enabled: bool) -> Stored:
        """When this returns, it is committed. A message by a channel that is not `enabled` is stored as rejected.

        Raises Problem.
        """
        try:
            if isinstance(event, delivery_pb2.ReportStatusRequest):
                status = await self.delivery.report_status(event, timeout=self.timeout)
                return Stored(None, status.duplicate)
            if not enabled and not event.rejection:
                event.rejection = dialog_pb2.REJECTION_REASON_CHANNEL_DISABLED
            return await self._submit(event)
        except CallError as error:
            raise from_call_error(error) from None

    async def _submit(self, message: dialog_pb2.SubmitMessageRequest) -> Stored:
        crashpoints.reach("edge.before_submit")
        answer = await self.dialog.submit_message(message, timeout=self.timeout)
        crashpoints.reach("edge.after_submit")
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("parley.tenant_id", message.tenant_id)
            span.set_attribute("parley.channel_id", message.channel_id)
            span.set_attribute("parley.message_id", answer.message_id)
            span.set_attribute("parley.duplicate", answer.duplicate)
        return Stored(answer.message_id, answer.duplicate)


@dataclass(frozen=True)
class Webhook:
    """`/webhooks/<provider>/{channel_id}` of one provider, as an ASGI application: the hot path of the edge."""

    provider: Provider
    channels: ChannelMirror
    events: Events
    bodies: Bodies
    failures: FailureLimit
    default_channel: str | None = None
    """The channel of `/webhook/<provider>`; there is no such path when it is None."""

    @cached_property
    def paths(self) -> list[str]:
        """Where it is served; the first is its name in traces."""
        name = self.provider.name
        return [f"/webhooks/{name}/{{channel_id}}"] + ([] if self.default_channel is None else [f"/webhook/{name}"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = Head(scope["headers"], scope["query_string"])
        route, method = self.paths[0], scope["method"]
        with current(spans.start(f"{method} {route}", scope["headers"])) as span:
            try:
                response = await self._answer(scope, receive, head)
            except Problem as problem:
                response = problem.response()
                if span.is_recording():
                    span.set_attribute("error.type", problem.reason)
            if span.is_recording():
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                spans.note_status(span, response.status_code)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, head: Head) -> Response:
        method, handshake, address = scope["method"], self.provider.handshake, scope["client"][0]
        if method != "POST" and not (method == "GET" and handshake is not None):
            raise Problem(405, "WRONG_HTTP_METHOD", "Webhooks are sent with POST.")
        entry = await self.channels.find(scope["path_params"].get("channel_id") or self.default_channel or "", address)
        if entry.channel.provider != self.provider.kind:
            raise Problem(404, "CHANNEL_NOT_FOUND", f"This is no channel of {self.provider.name}.")
        if method == "GET" and handshake is not None:
            challenge = handshake(head, entry.secrets)
            if challenge is None:
                raise self._unproven(address)
            return PlainTextResponse(challenge)
        body = await self._proven_body(scope, receive, head, entry)
        stored = await self._store(entry, self.provider.translate(entry.channel, body))
        return Response(self.provider.answer(stored), media_type="application/json")

    async def _proven_body(self, scope: Scope, receive: Receive, head: Head, entry: Entry) -> bytes:
        """The body as it came, once the caller has proven to be the provider; before it is read, where that can be."""
        provider = self.provider
        body = await self.bodies.read(scope, receive) if provider.signs_body else b""
        if not provider.authenticate(head, body, entry.secrets):
            raise self._unproven(scope["client"][0])
        return body if provider.signs_body else await self.bodies.read(scope, receive)

    async def _store(self, entry: Entry, events: Sequence[Event]) -> list[Stored]:
        """Stores all events in their order. One that is refused stops none of the others; it is raised at the end."""
        stored, refused = [], None
        for event in events:
            try:
                stored.append(await self.events.store(event, enabled=entry.channel.enabled))
            except Problem as problem:
                if problem.status >= 500:
                    raise  # the others would fail as well, and all of them will come again
                refused = refused or problem
        if refused is not None:
            raise refused
        return stored

    def _unproven(self, address: str) -> Problem:
        problem = Problem(401, "INVALID_SIGNATURE", self.provider.unproven)
        return self.failures.failed(address, "webhook_secret", problem)
