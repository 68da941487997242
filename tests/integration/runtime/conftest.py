"""A service with a scripted servicer, served by the runtime over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from parley_client.channel import Connection, connect
from services.runtime.app import App
from services.runtime.background import Background
from services.runtime.batches import run_items
from services.runtime.health import Check
from services.runtime.keys import tokens_of
from services.runtime.service import Running, Runtime, running
from services.runtime.settings import Settings
from tests.support.spans import recording

SERVICE = "parley.dialog.v1.DialogService"
MESSAGE_ID = "018f0000-0000-7000-8000-000000000000"

Get = Callable[[dialog_pb2.GetMessageRequest, Any], Awaitable[dialog_pb2.GetMessageResponse]]


async def found(request: dialog_pb2.GetMessageRequest, context: Any) -> dialog_pb2.GetMessageResponse:
    return dialog_pb2.GetMessageResponse()


class Scripted(dialog_pb2_grpc.DialogServiceServicer):
    """Does what a test tells it."""

    def __init__(self) -> None:
        self.get: Get = found
        self.record: Callable[..., Awaitable[Any]] | None = None
        self.submit: Callable[..., Awaitable[Any]] | None = None
        self.cancelled = asyncio.Event()
        self.watching = asyncio.Event()

    async def GetMessage(self, request: Any, context: Any) -> dialog_pb2.GetMessageResponse:
        return await self.get(request, context)

    async def BatchRecordOutcome(self, request: Any, context: Any) -> dialog_pb2.BatchRecordOutcomeResponse:
        assert self.record is not None
        return await run_items(
            request,
            context,
            method=f"/{SERVICE}/RecordOutcome",
            respond=dialog_pb2.BatchRecordOutcomeResponse,
            handle=self.record,
        )

    async def BatchSubmitMessage(self, request: Any, context: Any) -> dialog_pb2.BatchSubmitMessageResponse:
        assert self.submit is not None
        return await run_items(
            request,
            context,
            method=f"/{SERVICE}/SubmitMessage",
            respond=dialog_pb2.BatchSubmitMessageResponse,
            handle=self.submit,
        )

    async def GetQueueStats(self, request: Any, context: Any) -> dialog_pb2.GetQueueStatsResponse:
        return dialog_pb2.GetQueueStatsResponse()

    async def Chat(self, request: Any, context: Any) -> AsyncIterator[dialog_pb2.ChatResponse]:
        self.watching.set()
        try:
            yield dialog_pb2.ChatResponse()
            await self.get(request, context)
            yield dialog_pb2.ChatResponse()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Spans(list[Span]):
    """The spans that ended, by name."""

    def named(self, name: str) -> list[Span]:
        return [span for span in self if span.name == name]

    async def first(self, name: str) -> Span:
        """The first span with this name, once it has ended."""
        async with asyncio.timeout(30):
            while not self.named(name):
                await asyncio.sleep(0.005)
        return self.named(name)[0]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    recorded = Spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded))
    return recorded


@pytest.fixture
def settings(tmp_path: Path, keys_dir: Path) -> Settings:
    return Settings(home=tmp_path, keys_dir=keys_dir, drain_seconds=60, check_seconds=0.02, default_deadline_seconds=60)


@pytest.fixture
def servicer() -> Scripted:
    return Scripted()  # type: ignore[abstract]  # the rest stay unimplemented


Serve = Callable[..., Any]


@pytest.fixture
def serve(settings: Settings, servicer: Scripted) -> Serve:
    """Runs the scripted service: `async with serve(background=[...]) as service`."""

    def start(
        *, background: tuple[Background, ...] = (), checks: dict[str, Check] | None = None, **changes: object
    ) -> Any:
        async def build(runtime: Runtime, settings: Settings) -> App:
            servicers = [(SERVICE, dialog_pb2_grpc.add_DialogServiceServicer_to_server, servicer)]
            return App(servicers, background=background, checks=checks or {})

        return running("dialog", settings.model_copy(update=changes), build)

    return start


@pytest.fixture
async def service(spans: Spans, serve: Serve) -> AsyncIterator[Running]:
    async with serve() as started:
        yield started


@pytest.fixture
async def connection(service: Running, keys_dir: Path) -> AsyncIterator[Connection]:
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "operator")) as connection:
        yield connection


class Caller:
    """Calls GetMessage of the scripted service, with metadata of the test's choosing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.stub = dialog_pb2_grpc.DialogServiceStub(connection.channel)

    async def get(
        self, *metadata: tuple[str, str], tenant_id: str = "acme", timeout: float | None = None, token: bool = True
    ) -> grpc.StatusCode:
        """The status of a call."""
        request = dialog_pb2.GetMessageRequest(tenant_id=tenant_id, message_id=MESSAGE_ID)
        authorization = self.connection.authorization() if token else ()
        try:
            await self.stub.GetMessage(request, metadata=(*authorization, *metadata), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture
def caller(connection: Connection) -> Caller:
    return Caller(connection)
