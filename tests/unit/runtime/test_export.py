"""Spans leave in batches; a backend that is away costs memory up to a bound, and no more."""

import asyncio
import urllib.error
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.runtime import telemetry
from services.runtime.tracing import export
from services.runtime.tracing.export import Exporter, Refused, to_grpc, to_http
from services.runtime.tracing.otlp import encode_head, encode_span
from tests.unit.runtime.test_otlp import CONTEXT


class Backend:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.poison: set[str] = set()
        self.attempts = 0

    async def take(self, request: bytes) -> None:
        self.attempts += 1
        if self.away:
            raise ConnectionError("away")
        (resource,) = ExportTraceServiceRequest.FromString(request).resource_spans
        names = [span.name for span in resource.scope_spans[0].spans]
        if self.poison & set(names):
            raise Refused("INVALID_ARGUMENT")
        self.batches.append(names)

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


def span(name: object) -> bytes:
    return encode_span(CONTEXT, None, str(name), 0, 1, 2, {}, (), (), 0, "")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setattr(export, "INTERVAL", 0.01)
    return Backend()


def exporter(backend: Backend) -> Exporter:
    return Exporter("test", encode_head({"service.name": "x"}), backend.take)


async def test_spans_leave_in_order_and_in_batches(backend: Backend) -> None:
    exporting = exporter(backend)
    for i in range(1200):
        exporting.offer(span(i))
    await exporting.close()
    assert backend.names == [str(i) for i in range(1200)]
    assert [len(batch) for batch in backend.batches] == [512, 512, 176]


async def test_spans_wait_for_a_backend_that_is_away(backend: Backend) -> None:
    backend.away = True
    exporting = exporter(backend)
    for i in range(600):
        exporting.offer(span(i))
    await until(lambda: backend.attempts >= 2)
    backend.away = False
    await until(lambda: len(backend.names) == 600)
    assert backend.names == [str(i) for i in range(600)]
    assert exporting.dropped == 0
    await exporting.close()


async def test_too_many_spans_push_out_the_oldest(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "QUEUE", 100)
    backend.away = True
    exporting = exporter(backend)
    for i in range(250):
        exporting.offer(span(i))
    assert exporting.dropped == 150
    await until(lambda: backend.attempts >= 1)
    backend.away = False
    await until(lambda: backend.names)
    assert backend.names == [str(i) for i in range(150, 250)]
    await exporting.close()


async def test_a_span_that_is_refused_for_good_is_dropped_and_holds_up_nothing(backend: Backend) -> None:
    backend.poison = {"7"}
    exporting = exporter(backend)
    for i in range(600):
        exporting.offer(span(i))
    await until(lambda: len(backend.names) == 599)
    assert backend.names == [str(i) for i in range(600) if i != 7]
    assert exporting.dropped == 1
    await exporting.close()


async def test_a_backend_that_goes_away_while_a_bad_span_is_sought_gets_every_good_one_once(backend: Backend) -> None:
    backend.poison = {"3"}
    exporting = exporter(backend)
    take = backend.take

    async def flaky(request: bytes) -> None:
        if backend.attempts in (2, 4):
            backend.attempts += 1
            raise ConnectionError("away")
        await take(request)

    exporting._send = flaky
    for i in range(16):
        exporting.offer(span(i))
    await until(lambda: len(backend.names) == 15)
    assert backend.names == [str(i) for i in range(16) if i != 3]
    await exporting.close()


@pytest.mark.parametrize(
    ("code", "details", "refused"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "", True),
        (grpc.StatusCode.INTERNAL, "", True),
        (grpc.StatusCode.UNKNOWN, "", True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", False),
        (grpc.StatusCode.UNAVAILABLE, "", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", False),
        (grpc.StatusCode.UNAUTHENTICATED, "", False),
        (grpc.StatusCode.UNIMPLEMENTED, "", False),
    ],
)
async def test_a_backend_refuses_for_good_what_no_repeat_would_change(
    code: grpc.StatusCode, details: str, refused: bool
) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await context.abort(code, details)
        return b""

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Export": grpc.unary_unary_rpc_method_handler(answer)}
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(Refused if refused else grpc.aio.AioRpcError):
                await to_grpc(channel, {})(b"request")
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("status", "refused"),
    [(400, True), (413, True), (500, True), (401, False), (404, False), (429, False), (503, False)],
)
async def test_an_http_backend_refuses_for_good_what_no_repeat_would_change(status: int, refused: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Not in the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(Refused if refused else urllib.error.HTTPError):
            await to_http(f"http://127.0.0.1:{server.server_port}/v1/traces", {})(b"request")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_closing_gives_up_on_a_backend_that_is_away(backend: Backend) -> None:
    backend.away = True
    exporting = exporter(backend)
    exporting.offer(span(1))
    async with asyncio.timeout(30):
        await exporting.close()


async def test_closing_does_not_wait_for_a_backend_that_hangs(backend: Backend) -> None:
    hanging = Exporter("test", b"", lambda _: asyncio.sleep(60))
    hanging.offer(span(1))
    async with asyncio.timeout(30):
        await hanging.close(seconds=0.05)


async def test_spans_reach_an_http_backend_with_its_headers() -> None:
    seen: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.path, self.headers["x-key"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Not in the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        send = to_http(f"http://127.0.0.1:{server.server_port}/v1/traces", telemetry.parse_headers("x-key=a%20b,bad"))
        await send(b"request")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert seen == [("/v1/traces", "a b", b"request")]
