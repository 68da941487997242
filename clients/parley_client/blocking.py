"""Connections and calls for code without an event loop; the client classes are the same.

    with blocking.connect("127.0.0.1:50051", audience="context", tokens=token) as connection:
        known = ContextClient(connection).get_context(context_pb2.GetContextRequest(...), timeout=1.0)

Everything here is safe to use from several threads. Calls are never gathered into batches, because a thread makes only
one call at a time.
"""

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
from google.protobuf.message import Message

from parley_client.calls import expires_at
from parley_client.channel import OPTIONS, Caller
from parley_client.errors import from_rpc_error
from parley_client.tokens import Tokens
from parley_client.tracing import CallSpans, finish

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class BlockingConnection(Caller):
    """A channel to one service and the tokens for it. Make as many clients on it as you like; close it after them."""

    def __init__(self, channel: grpc.Channel, audience: str, tokens: Tokens) -> None:
        super().__init__(audience, tokens)
        self.channel = channel

    def close(self) -> None:
        """Closes the channel and cancels running calls."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def connect(
    address: str,
    *,
    audience: str,
    tokens: Tokens,
    credentials: grpc.ChannelCredentials | None = None,
) -> BlockingConnection:
    """Makes a blocking connection. Parameters, retries and bounds are those of `parley_client.channel.connect`."""
    if credentials is None:
        channel = grpc.insecure_channel(address, options=OPTIONS)
    else:
        channel = grpc.secure_channel(address, credentials, options=OPTIONS)
    return BlockingConnection(channel, audience, tokens)


class _Call:
    """What all calls share: a span, headers, and failures as CallError."""

    def __init__(self, connection: BlockingConnection, method: str) -> None:
        self._connection = connection
        self._spans = CallSpans(method)

    @contextmanager
    def _call_headers(self) -> Generator[tuple[tuple[str, str], ...]]:
        span, traceparent, tracestate = self._spans.start()
        code, message = "CANCELLED", ""
        try:
            yield self._connection.metadata(traceparent, tracestate)
            code = "OK"
        except grpc.RpcError as rpc_error:
            error = from_rpc_error(rpc_error, self._connection.audience)
            code, message = error.code.name, error.message
            raise error from rpc_error
        finally:
            if span is not None:
                finish(span, code, message)


class BlockingUnaryCall(_Call, Generic[Req, Res]):
    """One request, one response."""

    def __init__(
        self, connection: BlockingConnection, method: str, request: type[Req], response: type[Res], timeout: float
    ) -> None:
        super().__init__(connection, method)
        self._timeout = timeout
        self._call = connection.channel.unary_unary(
            f"/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __call__(self, request: Req, *, timeout: float | None = None) -> Res:
        expires = expires_at(self._timeout if timeout is None else timeout)
        with self._call_headers() as headers:
            return self._call(request, timeout=expires - monotonic(), metadata=headers)


class BlockingStreamCall(_Call, Generic[Req, Res]):
    """One request, many responses. The call starts with the first `next`; closing the generator cancels it."""

    def __init__(
        self,
        connection: BlockingConnection,
        method: str,
        request: type[Req],
        response: type[Res],
        timeout: float | None,
    ) -> None:
        super().__init__(connection, method)
        self._timeout = timeout
        self._call = connection.channel.unary_stream(
            f"/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __call__(self, request: Req, *, timeout: float | None = None) -> Generator[Res]:
        timeout = self._timeout if timeout is None else timeout
        left = None if timeout is None else expires_at(timeout) - monotonic()
        with self._call_headers() as headers:
            call = self._call(request, timeout=left, metadata=headers)
            try:
                yield from call
            finally:
                call.cancel()
