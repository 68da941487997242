"""Sends spans, encoded by OpenTelemetry's own encoder, and keeps them while a backend is away.

The exporters of OpenTelemetry give a batch up when its backend is away for some seconds, or when one span of it is bad.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from services.runtime.background import Faults, stopped
from services.runtime.halving import send_in_halves
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

MOST_BYTES = 8 * 1024 * 1024
"""The most bytes of encoded spans that wait for a backend, some 25,000 spans. Beyond that the oldest are dropped."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two attempts while a backend is away."""


class Batch(NamedTuple):
    """Encoded spans: how many, and the `ExportTraceServiceRequest` of them."""

    spans: int
    request: bytes


Send = Callable[[bytes], Awaitable[object]]
"""Sends an `ExportTraceServiceRequest`. Raises `Refused`, or something else when it may be taken later."""


class Refused(Exception):
    """The backend will never take these spans."""


class Handover(SpanExporter):
    """Encodes spans in the thread of a `BatchSpanProcessor`, and gives them to the loop."""

    def __init__(self, take: Callable[[Batch], None]) -> None:
        """`take` is called on the loop that runs now."""
        self._take = take
        self._loop = asyncio.get_running_loop()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for batch in encode(spans):
            self._loop.call_soon_threadsafe(self._take, batch)
        return SpanExportResult.SUCCESS


class Outbound:
    """The spans that wait for one backend, and the task that sends them.

    While a backend is away it is tried now and then, and when too many spans wait the oldest are dropped. Spans that it
    refuses for good are dropped at once, so nothing waits behind them.
    """

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._waiting: deque[Batch] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"send spans to {name}")
        self.dropped = 0

    def offer(self, batch: Batch) -> None:
        """Takes encoded spans."""
        self._waiting.append(batch)
        self._bytes += len(batch.request)
        while self._bytes > MOST_BYTES:
            self.dropped += self._next().spans
        self._some.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Sends what waits, for at most so many seconds."""
        self._stopping.set()
        self._some.set()
        await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()

    async def _run(self) -> None:
        pause, faults = FIRST_PAUSE, Faults("spans cannot be sent", "spans are sent again", {"to": self._name})
        while self._waiting or not self._stopping.is_set():
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
                continue
            try:
                await self._send_next()
            except Exception as error:
                if self._stopping.is_set():
                    return
                faults.failed(error)
                await stopped(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                faults.succeeded(dropped=self.dropped)
                pause = FIRST_PAUSE

    async def _send_next(self) -> None:
        parts: list[Sequence[Batch]] = [[self._next()]]
        try:
            try:
                await self._send_part(parts[0])
                parts.clear()
            except Refused:
                parts[0] = apart(parts[0][0])
                await send_in_halves(parts, self._send_part, Refused, self._refused)
        finally:  # parts that are left were not sent
            self._put_back([joined(part) for part in parts])

    async def _send_part(self, batches: Sequence[Batch]) -> None:
        await self._send(joined(batches).request)

    def _next(self) -> Batch:
        batch = self._waiting.popleft()
        self._bytes -= len(batch.request)
        return batch

    def _put_back(self, batches: Sequence[Batch]) -> None:
        for batch in reversed(batches):
            if self._bytes + len(batch.request) > MOST_BYTES:
                self.dropped += batch.spans
            else:
                self._waiting.appendleft(batch)
                self._bytes += len(batch.request)

    def _refused(self, batches: Sequence[Batch], error: Exception) -> None:
        spans = joined(batches).spans
        self.dropped += spans
        log.warning("spans are refused", by=self._name, refused=spans, dropped=self.dropped, error=describe(error))


def encode(spans: Sequence[ReadableSpan]) -> list[Batch]:
    """Encodes spans together. If one of them cannot be encoded, it is left out."""
    try:
        return [Batch(len(spans), encode_spans(spans).SerializeToString())]
    except Exception as error:
        if len(spans) > 1:
            half = len(spans) // 2
            return encode(spans[:half]) + encode(spans[half:])
        log.warning("a span cannot be encoded", error=type(error).__name__)
        return []


def joined(batches: Sequence[Batch]) -> Batch:
    """Joins batches: protobuf messages that follow one another are one message with the fields of all."""
    return Batch(sum(batch.spans for batch in batches), b"".join([batch.request for batch in batches]))


def apart(batch: Batch) -> list[Batch]:
    """Returns each span of a batch as a batch of its own."""
    found = []
    for resource in ExportTraceServiceRequest.FromString(batch.request).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                one = ExportTraceServiceRequest()
                one.resource_spans.add(resource=resource.resource).scope_spans.add(scope=scope.scope, spans=[span])
                found.append(Batch(1, one.SerializeToString()))
    return found
