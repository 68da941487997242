"""Ways to the backends that take spans by OTLP."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Mapping

import grpc

from parley_client.tokens import TokenSource
from services.runtime.logs import describe
from services.runtime.tracing.export import Refused, Send

TIMEOUT = 5.0
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_LATER = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        # These say nothing of the spans: somebody has to mend the address or the credentials.
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Answers after which the same spans may be taken later; the first seven are those of the OTLP specification."""
_LATER_BY_HTTP = frozenset({401, 403, 404, 405, 407, 408, 429, 502, 503, 504})
_TOO_LARGE = "larger than max"
"""Stands in gRPC's own words when a message exceeds the receiver's limit."""


def to_telemetry(channel: grpc.aio.Channel, tokens: TokenSource) -> Send:
    """Our own telemetry service."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)

    async def send(request: bytes) -> object:
        metadata = (("authorization", f"Bearer {tokens.token('telemetry')}"),)
        return await _taken(call(request, timeout=TIMEOUT, metadata=metadata))

    return send


def to_grpc(channel: grpc.aio.Channel, headers: Mapping[str, str], method: str = EXPORT) -> Send:
    """Any OTLP/gRPC backend."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    metadata = tuple((key.lower(), value) for key, value in headers.items())

    async def send(request: bytes) -> object:
        return await _taken(call(request, timeout=TIMEOUT, metadata=metadata))

    return send


async def _taken(call: Awaitable[bytes]) -> bytes:
    """The answer of a call. Raises `Refused` when no repeat would change it."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() not in _LATER or _TOO_LARGE in (error.details() or ""):
            raise Refused(describe(error)) from error
        raise


def to_http(url: str, headers: Mapping[str, str]) -> Send:
    """Any OTLP/HTTP backend (binary protobuf)."""

    def post(request: bytes) -> None:
        head = {**headers, "content-type": "application/x-protobuf"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, request, head), timeout=TIMEOUT):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            if error.code not in _LATER_BY_HTTP:
                raise Refused(describe(error)) from error
            raise

    async def send(request: bytes) -> None:
        await asyncio.to_thread(post, request)

    return send
