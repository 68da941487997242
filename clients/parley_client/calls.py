"""The three shapes of calls: unary, coalesced, and server stream. A client has one callable for each RPC.

Each takes the request and a `timeout` in seconds (None for the RPC's own default), and raises CallError. A call made
while an incoming call is being answered never outlasts that call's deadline.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message

from parley_client.channel import Connection
from parley_client.coalesce import Coalescer
from parley_client.errors import CallError, DeadlineExceeded, Internal, from_rpc_error, from_status
from parley_client.tracing import CallSpans, finish

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

DEADLINE: ContextVar[float | None] = ContextVar("parley_deadline", default=None)
"""The deadline of the incoming call that is being answered, in `time.monotonic()` seconds; None if there is none."""

# Seconds. An item whose deadline is this close to its batch's does not send its own: the caller watches it anyway.
_SAME_DEADLINE = 0.25


def expires_at(timeout: float) -> float:
    """Returns when a call that starts now must end (`time.monotonic()`). Raises DeadlineExceeded if that is past."""
    now = monotonic()
    expires, bound = now + timeout, DEADLINE.get()
    if bound is not None and bound < expires:
        expires = bound
    if expires <= now:
        raise too_late()
    return expires


def too_late() -> DeadlineExceeded:
    return DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "The call's time was up.", reason="DEADLINE_EXCEEDED")


class UnaryCall(Generic[Req, Res]):
    """One request, one response."""

    def __init__(
        self, connection: Connection, method: str, request: type[Req], response: type[Res], timeout: float
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._spans = CallSpans(method)
        self._call = connection.channel.unary_unary(
            f"/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    async def __call__(self, request: Req, *, timeout: float | None = None) -> Res:
        expires = expires_at(self._timeout if timeout is None else timeout)
        span, traceparent, tracestate = self._spans.start()
        code, message = "CANCELLED", ""
        try:
            metadata = self._connection.metadata(traceparent, tracestate)
            response: Res = await self._call(request, timeout=expires - monotonic(), metadata=metadata)
            code = "OK"
            return response
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error, self._connection.audience)
            code, message = error.code.name, error.message
            raise error from rpc_error
        finally:
            if span is not None:
                finish(span, code, message)


class StreamCall(Generic[Req, Res]):
    """One request, many responses. Closing the generator cancels the call."""

    def __init__(
        self, connection: Connection, method: str, request: type[Req], response: type[Res], timeout: float | None
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._spans = CallSpans(method)
        self._call = connection.channel.unary_stream(
            f"/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    async def __call__(self, request: Req, *, timeout: float | None = None) -> AsyncGenerator[Res, None]:
        timeout = self._timeout if timeout is None else timeout
        # A stream without a timeout outlives the incoming call in which it happens to be opened.
        left = None if timeout is None else expires_at(timeout) - monotonic()
        span, traceparent, tracestate = self._spans.start()
        code, message = "CANCELLED", ""
        call = self._call(request, timeout=left, metadata=self._connection.metadata(traceparent, tracestate))
        try:
            async for response in call:
                yield response
            code = "OK"
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error, self._connection.audience)
            code, message = error.code.name, error.message
            raise error from rpc_error
        finally:
            call.cancel()
            if span is not None:
                finish(span, code, message)


class _Item(NamedTuple):
    request: Message
    expires: float
    traceparent: str
    tracestate: str


class CoalescedCall(Generic[Req, Res]):
    """One request, one response, sent by the RPC's Batch twin together with other calls of the same moment.

    Each call keeps its own trace and deadline. A batch goes on without callers that are cancelled or run out of time.
    """

    def __init__(
        self,
        connection: Connection,
        method: str,
        batch: type[Message],
        batch_response: type[Message],
        timeout: float,
        gather: float = 0.0,
    ) -> None:
        """`gather` is that of `Coalescer`."""
        self._connection = connection
        self._timeout = timeout
        self._spans = CallSpans(method)
        service, _, rpc = method.rpartition("/")
        self._batch: Any = batch
        self._call = connection.channel.unary_unary(
            f"/{service}/Batch{rpc}",
            request_serializer=batch.SerializeToString,
            response_deserializer=batch_response.FromString,
        )
        self._coalescer: Coalescer[_Item, Res] = Coalescer(self._send, gather=gather)

    async def __call__(self, request: Req, *, timeout: float | None = None) -> Res:
        expires = expires_at(self._timeout if timeout is None else timeout)
        span, traceparent, tracestate = self._spans.start()
        item = _Item(request, expires, traceparent, tracestate)
        if span is None:
            try:
                return await self._coalescer.submit(item, expires)
            except TimeoutError as error:
                raise too_late() from error
        code, message = "CANCELLED", ""
        try:
            response = await self._coalescer.submit(item, expires)
            code = "OK"
            return response
        except TimeoutError as error:
            code = "DEADLINE_EXCEEDED"
            raise too_late() from error
        except CallError as error:
            code, message = error.code.name, error.message
            raise
        finally:
            finish(span, code, message)

    async def drain(self) -> None:
        """Waits until no call is running."""
        await self._coalescer.drain()

    async def _one_by_one(self, items: list[_Item]) -> Sequence[Res | Exception]:
        """Repeats a failed batch item by item, so that only the item at fault fails."""
        results: list[Res | Exception] = []
        for item in items:
            results += [too_late()] if item.expires <= monotonic() else await self._send([item])
        return results

    async def _send(self, items: list[_Item]) -> Sequence[Res | Exception]:
        latest = max(item.expires for item in items)
        request = batch_of(self._batch, items, latest)
        try:
            response: Any = await self._call(
                request, timeout=max(0.001, latest - monotonic()), metadata=self._connection.authorization()
            )
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error, self._connection.audience)
            if _too_large(error) and len(items) > 1:
                half = len(items) // 2
                first, second = await asyncio.gather(self._send(items[:half]), self._send(items[half:]))
                return [*first, *second]
            if len(items) > 1 and error.code in _ALONE:
                return await self._one_by_one(items)
            return [error] * len(items)
        results = response.results
        if len(results) != len(items):
            lost = Internal(
                grpc.StatusCode.INTERNAL, f"The service answered {len(results)} of {len(items)} items of a batch."
            )
            return [lost] * len(items)
        return [result.response if result.HasField("response") else from_status(result.error) for result in results]


_ALONE = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT})
"""Failures of a whole batch that a single item may have caused. Request ids keep a repeated item from acting twice."""


def batch_of(batch: Any, items: Sequence[_Item], latest: float) -> Any:
    """Builds the batch request for some items; its RPC ends at `latest`."""
    request, now = batch(), monotonic()
    add = request.items.add
    for item in items:
        added = add()
        added.request.CopyFrom(item.request)  # half the time of add(request=...)
        if item.traceparent:
            added.context.traceparent = item.traceparent
            if item.tracestate:
                added.context.tracestate = item.tracestate
        if latest - item.expires > _SAME_DEADLINE:
            left = max(0.0, item.expires - now)
            added.context.timeout.seconds = int(left)
            added.context.timeout.nanos = int(left % 1 * 1e9)
    return request


def _too_large(error: CallError) -> bool:
    """Whether the transport refused a message above the size limit. A refusal by the service has a reason."""
    return error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not error.reason
