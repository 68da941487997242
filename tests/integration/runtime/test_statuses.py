"""Every way in which a call can end gives the client a status and the trace a true span."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import grpc
import pytest

from parley.common.v1 import identity_pb2
from parley.dialog.v1 import dialog_pb2

from parley_client.calls import DEADLINE
from parley_client.channel import Connection, connect
from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from parley_client.tracing import inject
from services.kernel.errors import Kind, ParleyError, not_found
from services.runtime.auth import caller as current_caller
from services.runtime.keys import tokens_of
from services.runtime.service import Running
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Caller, Scripted, Serve, Spans

GET = f"{SERVICE}/GetMessage"
TRACED = ("traceparent", f"00-{0xABC:032x}-{0xDEF:016x}-01")
UNTRACED = ("traceparent", f"00-{0xABC:032x}-{0xDEF:016x}-00")


def attributes(span: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def raising(error: BaseException) -> Any:
    async def get(request: Any, context: Any) -> Any:
        raise error

    return get


async def hang(request: Any, context: Any) -> Any:
    await asyncio.Event().wait()


@pytest.fixture
async def edge(service: Running, keys_dir: Path) -> AsyncIterator[Caller]:
    """A service of ours, whose trace is continued."""
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "edge")) as connection:
        yield Caller(connection)


async def test_a_good_call_continues_a_services_trace(edge: Caller, spans: Spans) -> None:
    assert await edge.get(TRACED) is grpc.StatusCode.OK
    span = await spans.first(GET)
    assert (span.trace_id, span.parent_span_id) == ((0xABC).to_bytes(16), (0xDEF).to_bytes(8))
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "rpc.system.name": "grpc",
        "rpc.method": GET,
        "rpc.response.status_code": "OK",
        "parley.tenant_id": "acme",
    }


async def test_a_trace_that_is_not_recorded_is_passed_on_without_a_span(
    edge: Caller, spans: Spans, servicer: Scripted
) -> None:
    seen = []

    async def get(request: Any, context: Any) -> dialog_pb2.GetMessageResponse:
        seen.append(inject()[0])
        return dialog_pb2.GetMessageResponse()

    servicer.get = get
    await edge.get(UNTRACED)
    assert seen == [UNTRACED[1]]
    assert spans == []


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_failure_leaves_with_its_code_and_only_ours_mark_the_span(
    caller: Caller, spans: Spans, servicer: Scripted, kind: Kind
) -> None:
    servicer.get = raising(ParleyError(kind, "WRONG_STATE", "So it is."))
    assert (await caller.get()).name == kind.value
    span = await spans.first(GET)
    ours = kind in (Kind.UNAVAILABLE, Kind.DEADLINE, Kind.INTERNAL)
    assert attributes(span)["rpc.response.status_code"] == kind.value
    assert (span.status.code == span.status.STATUS_CODE_ERROR) is ours
    assert (attributes(span).get("error.type") == kind.value) is ours
    assert span.status.message == ("So it is." if ours else "")


async def test_details_reach_the_client(connection: Connection, servicer: Scripted) -> None:
    servicer.get = raising(not_found("MESSAGE_NOT_FOUND", "message", "message_id", MESSAGE_ID))
    request = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID)
    with pytest.raises(CallError) as caught:
        await DialogClient(connection).get_message(request)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert caught.value.metadata == {"message_id": MESSAGE_ID}


async def test_a_fault_of_ours_says_nothing_of_itself(
    connection: Connection, spans: Spans, servicer: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    error = asyncpg.UniqueViolationError("duplicate key")
    error.detail = "Key (phone)=(+996555123456) already exists."
    servicer.get = raising(error)
    request = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID)
    with pytest.raises(CallError) as caught:
        await DialogClient(connection).get_message(request)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    span = await spans.first(GET)
    assert attributes(span)["error.type"] == "INTERNAL"
    for text in (str(caught.value), str(span)):
        assert "duplicate" not in text
        assert "996555" not in text


async def test_a_store_that_is_away_is_unavailable_with_a_time_to_come_back(
    connection: Connection, servicer: Scripted
) -> None:
    calls = 0

    async def get(request: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        raise asyncpg.ConnectionDoesNotExistError("gone")

    servicer.get = get
    request = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID)
    with pytest.raises(CallError) as caught:
        await DialogClient(connection).get_message(request)
    assert (caught.value.reason, caught.value.retry_after) == ("STORAGE_UNAVAILABLE", 1.0)
    assert calls == 4  # the client's retry policy


async def test_a_handlers_own_abort_is_left_alone(caller: Caller, spans: Spans, servicer: Scripted) -> None:
    async def get(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    servicer.get = get
    assert await caller.get() is grpc.StatusCode.DATA_LOSS
    span = await spans.first(GET)
    assert (attributes(span)["rpc.response.status_code"], span.status.message) == ("DATA_LOSS", "lost")


async def test_a_cancelled_call_ends_its_handler_and_its_span(
    caller: Caller, connection: Connection, spans: Spans, servicer: Scripted
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def get(request: Any, context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    servicer.get = get
    call = asyncio.ensure_future(caller.get())
    await begun.wait()
    call.cancel()
    async with asyncio.timeout(30):
        await ended.wait()
    span = await spans.first(GET)
    assert attributes(span)["rpc.response.status_code"] == "CANCELLED"
    assert span.status.code == span.status.STATUS_CODE_UNSET


# The wire rounds a timeout up, so the caller may hang up some milliseconds before the service's deadline.
@pytest.mark.parametrize("timeout", [0.9, 1.0, 1.001])
async def test_a_callers_deadline_ends_the_handler_and_marks_the_span(
    caller: Caller, spans: Spans, servicer: Scripted, timeout: float
) -> None:
    assert await caller.get() is grpc.StatusCode.OK  # connected, so that the next call reaches the service in time
    await spans.first(GET)
    spans.clear()

    async def for_ever(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    servicer.get = for_ever
    assert await caller.get(timeout=timeout) is grpc.StatusCode.DEADLINE_EXCEEDED
    span = await spans.first(GET)
    assert attributes(span)["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert span.status.code == span.status.STATUS_CODE_ERROR


async def test_a_call_without_a_deadline_gets_the_servers(
    serve: Serve, servicer: Scripted, spans: Spans, keys_dir: Path
) -> None:
    servicer.get = hang
    async with (
        serve(default_deadline_seconds=0.05) as service,
        connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "operator")) as connection,
    ):
        assert await Caller(connection).get() is grpc.StatusCode.DEADLINE_EXCEEDED
        span = await spans.first(GET)
    assert attributes(span)["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_a_handlers_own_timeout_is_a_fault_and_not_the_callers_deadline(
    caller: Caller, servicer: Scripted
) -> None:
    servicer.get = raising(TimeoutError())
    assert await caller.get(timeout=60) is grpc.StatusCode.INTERNAL
    assert await caller.get() is grpc.StatusCode.INTERNAL


async def test_the_time_left_bounds_the_calls_that_a_handler_makes(caller: Caller, servicer: Scripted) -> None:
    left = []

    async def get(request: Any, context: Any) -> dialog_pb2.GetMessageResponse:
        left.append((DEADLINE.get() or 0) - monotonic())
        return dialog_pb2.GetMessageResponse()

    servicer.get = get
    await caller.get(timeout=20)
    await caller.get()
    # The wire rounds a timeout up, to tenths of a second at this length.
    assert 10 < left[0] < 20.2
    assert 40 < left[1] < 60.2


async def test_a_stream_that_fails_half_way_has_its_status(
    connection: Connection, spans: Spans, servicer: Scripted
) -> None:
    servicer.get = raising(ParleyError(Kind.UNAVAILABLE, "MODEL_UNAVAILABLE", "The model is away."))
    stream = DialogClient(connection).chat(chat_request(), timeout=60)
    await anext(stream)
    with pytest.raises(CallError) as caught:
        await anext(stream)
    assert caught.value.reason == "MODEL_UNAVAILABLE"
    span = await spans.first(f"{SERVICE}/Chat")
    assert attributes(span)["rpc.response.status_code"] == "UNAVAILABLE"


async def test_a_stream_that_its_client_leaves_is_cancelled(
    connection: Connection, spans: Spans, servicer: Scripted
) -> None:
    servicer.get = hang
    stream = DialogClient(connection).chat(chat_request(), timeout=60)
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(30):
        await servicer.cancelled.wait()
    span = await spans.first(f"{SERVICE}/Chat")
    assert attributes(span)["rpc.response.status_code"] == "CANCELLED"


async def test_a_whole_stream_is_ok(connection: Connection, spans: Spans) -> None:
    responses = [each async for each in DialogClient(connection).chat(chat_request(), timeout=60)]
    assert len(responses) == 2
    span = await spans.first(f"{SERVICE}/Chat")
    assert attributes(span)["rpc.response.status_code"] == "OK"


async def test_a_handler_knows_who_calls(caller: Caller, servicer: Scripted) -> None:
    seen = []

    async def get(request: Any, context: Any) -> dialog_pb2.GetMessageResponse:
        seen.append(current_caller().name)
        return dialog_pb2.GetMessageResponse()

    servicer.get = get
    await caller.get()
    assert seen == ["operator"]


def chat_request() -> dialog_pb2.ChatRequest:
    request = dialog_pb2.ChatRequest(tenant_id="acme", channel_id="web", bot_id="assistant", request_id="1")
    request.sender.identity.kind = identity_pb2.IDENTITY_KIND_EXTERNAL
    request.sender.identity.value = "u1"
    request.content.text = "hello"
    return request
