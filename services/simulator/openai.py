"""An OpenAI-compatible Responses API with a scripted model behind it."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.simulator.bodies import Json, decode, read_body
from services.simulator.calls import Call, CallLog
from services.simulator.connections import Broken, Cut, EventStream, pause
from services.simulator.faults import Fault, Faults
from services.simulator.scripts import Conversation, Scripted, Scripts, tokens_of

PROVIDER = "openai"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ResponsesApi:
    """Answers deterministically, and says that it is scripted."""

    def __init__(self, calls: CallLog, faults: Faults, scripts: Scripts) -> None:
        self._calls = calls
        self._faults = faults
        self._scripts = scripts
        self.tokens: frozenset[str] = frozenset()
        """API keys that are accepted; any when empty."""

    def routes(self) -> list[Route]:
        return [
            Route("/openai/v1/responses", self.create, methods=["POST"]),
            Route("/openai/v1/models", self.models, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return Json(
            {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "simulator"}]}
        )

    async def create(self, request: Request) -> Response:
        """`POST /v1/responses`."""
        raw = await read_body(request)
        body = decode(raw)
        conversation = Conversation.of(body) if isinstance(body, dict) else None
        question = conversation.question if conversation else ""
        call = self._calls.add(PROVIDER, request.scope["path"], "", question, request.headers, raw)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        fault = self._faults.take(PROVIDER, text=question, authorization=key) if self._faults else None
        if fault:
            return await self._fail(request, fault, call, conversation, key)
        return self._answer(call, conversation, key)

    def _answer(self, call: Call, conversation: Conversation | None, key: str, fault: Fault | None = None) -> Response:
        kind = fault.kind if fault else ""
        refused = self._refusal(conversation, key)
        if refused:
            self._calls.settle(call, refused.status_code, accepted=False, fault=kind)
            return refused
        assert conversation is not None
        scripted = self._scripts.answer(conversation)
        call.message_id = self._calls.next_message_id()
        response = make_response(f"resp_sim{call.message_id}", conversation, scripted)
        self._calls.settle(call, 200, accepted=True, fault=kind)
        cut = kind == "drop_after"
        if conversation.stream:
            return EventStream(stream_events(response, scripted, cut=cut))
        return Cut() if cut else Json(response)

    def _refusal(self, conversation: Conversation | None, key: str) -> Response | None:
        if not key or (self.tokens and key not in self.tokens):
            return error_response(401, "invalid_api_key", "Incorrect API key provided.")
        if conversation is None or not conversation.model or not conversation.messages:
            return error_response(400, "missing_required_parameter", "model and input are required.")
        return None

    async def _fail(
        self, request: Request, fault: Fault, call: Call, conversation: Conversation | None, key: str
    ) -> Response:
        if fault.kind in ("delay", "drop_after"):
            await pause(request, fault.seconds)
            return self._answer(call, conversation, key, fault)
        status = fault.status if fault.kind == "status" else 0
        self._calls.settle(call, status, accepted=False, fault=fault.kind)
        if fault.kind == "hang":
            await pause(request, fault.seconds)
        if fault.kind in ("hang", "refuse"):
            return Cut()
        return error_response(fault.status, fault.code, fault.message or f"Simulated {fault.status}.", fault.headers)


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code or None}
    return Json({"error": error}, status, headers)


def make_response(response_id: str, conversation: Conversation, scripted: Scripted) -> dict[str, Any]:
    """A Response object."""
    message_id = response_id.replace("resp_", "msg_")
    part: dict[str, Any] = {"type": "output_text", "text": scripted.text, "annotations": [], "logprobs": []}
    if scripted.refusal:
        part = {"type": "refusal", "refusal": scripted.refusal}
    said = scripted.text or scripted.refusal
    status = "incomplete" if scripted.incomplete else "completed"
    message = {"id": message_id, "type": "message", "role": "assistant", "status": status, "content": [part]}
    input_tokens, output_tokens = conversation.tokens, tokens_of(said)
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": scripted.incomplete} if scripted.incomplete else None,
        "instructions": conversation.instructions or None,
        "max_output_tokens": conversation.max_output_tokens,
        "model": conversation.model,
        "output": scripted.output or ([message] if said else []),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": conversation.tools,
        "top_p": 1.0,
        "truncation": "disabled",
        "metadata": {},
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        },
    }


async def stream_events(response: dict[str, Any], scripted: Scripted, *, cut: bool) -> AsyncIterator[bytes]:
    """The server-sent events of a response. With `cut` the connection breaks in the middle of the text."""
    number = 0

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal number
        data = msgspec.json.encode({"type": kind, "sequence_number": number, **fields})
        number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)

    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun) + event("response.in_progress", response=begun)
    if scripted.error_code:
        yield event("error", code=scripted.error_code, message="Simulated error.", param=None)
        return
    for index, item in enumerate(response["output"]):
        yield event(
            "response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []}
        )
        for position, part in enumerate(item.get("content", ())):
            at = {"item_id": item["id"], "output_index": index, "content_index": position}
            name, key = ("output_text", "text") if part["type"] == "output_text" else ("refusal", "refusal")
            extra: dict[str, Any] = {"logprobs": []} if name == "output_text" else {}
            yield event("response.content_part.added", part={**part, key: ""}, **at)
            pieces = scripted.pieces(part[key])
            for count, piece in enumerate(pieces):
                if cut and count >= len(pieces) // 2:
                    raise Broken
                if scripted.seconds_per_piece:
                    await asyncio.sleep(scripted.seconds_per_piece)
                yield event(f"response.{name}.delta", delta=piece, **at, **extra)
            yield event(f"response.{name}.done", **{key: part[key]}, **at, **extra)
            yield event("response.content_part.done", part=part, **at)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{response['status']}", response=response)
