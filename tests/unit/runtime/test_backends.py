"""Backends by OTLP: what they are sent, and which of their answers are final."""

import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import grpc
import pytest

from services.runtime.tracing import provider
from services.runtime.tracing.backends import to_grpc, to_http
from services.runtime.tracing.export import Refused


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


@contextmanager
def http_backend(status: int) -> Iterator[tuple[str, list[tuple[str, str | None, bytes]]]]:
    """Where a server listens that answers so, and what it was sent: path, key and body."""
    seen: list[tuple[str, str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.path, self.headers["x-key"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Not in the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "refused"),
    [(400, True), (413, True), (500, True), (401, False), (404, False), (429, False), (503, False)],
)
async def test_an_http_backend_refuses_for_good_what_no_repeat_would_change(status: int, refused: bool) -> None:
    with http_backend(status) as (url, _), pytest.raises(Refused if refused else urllib.error.HTTPError):
        await to_http(url, {})(b"request")


async def test_spans_reach_an_http_backend_with_its_headers() -> None:
    with http_backend(200) as (url, seen):
        await to_http(url, provider.parse_headers("x-key=a%20b,bad"))(b"request")
    assert seen == [("/v1/traces", "a b", b"request")]
