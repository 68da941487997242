"""Spans leave in batches; a backend that is away costs memory up to a bound, and no more."""

import asyncio
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.runtime import telemetry
from services.runtime.tracing import export
from services.runtime.tracing.export import Exporter, to_http
from services.runtime.tracing.otlp import encode_head, encode_span
from tests.unit.runtime.test_otlp import CONTEXT


class Backend:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.attempts = 0

    async def take(self, request: bytes) -> None:
        self.attempts += 1
        if self.away:
            raise ConnectionError("away")
        (resource,) = ExportTraceServiceRequest.FromString(request).resource_spans
        self.batches.append([span.name for span in resource.scope_spans[0].spans])

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
