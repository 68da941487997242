"""Sends spans away: encoded by OpenTelemetry's own encoder, and kept while a backend is away.

The exporters of OpenTelemetry give a batch up when its backend is away for some seconds, or when one span of it is bad.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from services.runtime.halving import send_in_halves
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

MOST_BYTES = 8 * 1024 * 1024
"""Encoded spans that wait for a backend at most, some 25,000; beyond that the oldest are dropped."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two attempts while a backend is away."""


class Batch(NamedTuple):
    """Encoded spans: how many, and the `ExportTraceServiceRequest` of them."""

    spans: int
    request: bytes


Send = Callable[[bytes], Awaitable[object]]
"""Sends an `ExportTraceServiceRequest`. Raises `Refused`, or something else when it may be taken later."""


class Refused(Exception):
    """The backend does not take these spans, now or later."""


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
    """What waits for one backend, and the task that sends it.

    A backend that is away costs one failed attempt now and then: spans wait, and the oldest are dropped when there are
    too many. What it refuses for good is dropped, and nothing waits behind it.
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
        """Take encoded spans."""
        self._waiting.append(batch)
        self._bytes += len(batch.request)
        while self._bytes > MOST_BYTES:
            self.dropped += self._next().spans
        self._some.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Send what waits, for so many seconds at most."""
        self._stopping.set()
        self._some.set()
        await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()

    async def _run(self) -> None:
        pause, away = FIRST_PAUSE, False
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
                if not away:
                    log.warning("spans cannot be sent", to=self._name, error=describe(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause, away = min(pause * 2, LONGEST_PAUSE), True
                continue
            if away:
                log.info("spans are sent again", to=self._name, dropped=self.dropped)
            pause, away = FIRST_PAUSE, False

    async def _send_next(self) -> None:
        parts: list[Sequence[Batch]] = [[self._next()]]
        try:
            try:
                await self._send_part(parts[0])
                parts.clear()
            except Refused:
                parts[0] = apart(parts[0][0])
                await send_in_halves(parts, self._send_part, Refused, self._refused)
        finally:  # what is left was not sent
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
    """Spans encoded together; apart when one of them cannot be, and that one is left out."""
    try:
        return [Batch(len(spans), encode_spans(spans).SerializeToString())]
    except Exception as error:
        if len(spans) > 1:
            half = len(spans) // 2
            return encode(spans[:half]) + encode(spans[half:])
        log.warning("a span cannot be encoded", error=type(error).__name__)
        return []


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches as one: protobuf messages that follow one another are one message with the fields of all."""
    return Batch(sum(batch.spans for batch in batches), b"".join([batch.request for batch in batches]))


def apart(batch: Batch) -> list[Batch]:
    """Each span of a batch on its own."""
    found = []
    for resource in ExportTraceServiceRequest.FromString(batch.request).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                one = ExportTraceServiceRequest()
                one.resource_spans.add(resource=resource.resource).scope_spans.add(scope=scope.scope, spans=[span])
                found.append(Batch(1, one.SerializeToString()))
    return found
