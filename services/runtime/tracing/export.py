"""Sends encoded spans away, on the loop and in batches."""

import asyncio
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import grpc

from parley_client.tokens import TokenSource
from services.runtime.apart import send_apart
from services.runtime.logs import describe, get_logger
from services.runtime.tracing.otlp import encode_export

log = get_logger(__name__)

QUEUE = 16_384
"""Spans that wait at most; beyond that the oldest are dropped."""
BATCH = 512
INTERVAL = 0.5
"""Seconds between two exports when there is little to export."""
TIMEOUT = 5.0
_LONGEST_PAUSE = 10.0

Send = Callable[[bytes], Awaitable[object]]
"""Sends an `ExportTraceServiceRequest`. Raises `Refused`, or something else when it may be taken later."""

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


class Refused(Exception):
    """The backend does not take these spans, now or later."""


class Exporter:
    """A queue of spans and the task that empties it.

    A backend that is away costs one failed attempt now and then: spans wait, and the oldest are dropped when there are
    too many. What it refuses for good is dropped, and nothing waits behind it.
    """

    def __init__(self, name: str, head: bytes, send: Send) -> None:
        """`head` begins each request (`otlp.encode_head`)."""
        self._name = name
        self._head = head
        self._send = send
        self._waiting: deque[bytes] = deque(maxlen=QUEUE)
        self._first = asyncio.Event()
        """Set when something waits after nothing did."""
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"export spans to {name}")
        self.dropped = 0

    def offer(self, span: bytes) -> None:
        """Take an encoded span."""
        waiting = self._waiting
        if len(waiting) == QUEUE:
            self.dropped += 1
        waiting.append(span)
        if len(waiting) == 1:
            self._first.set()
        elif len(waiting) == BATCH:
            self._due.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Send what waits, for so many seconds at most."""
        self._stopping.set()
        self._first.set()
        self._due.set()
        await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()

    async def _run(self) -> None:
        pause, away = INTERVAL, False
        while self._waiting or not self._stopping.is_set():
            if not self._waiting:
                await self._first.wait()
            self._first.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for((self._stopping if away else self._due).wait(), pause)
            self._due.clear()
            try:
                while self._waiting:
                    await self._send_batch()
            except Exception as error:
                if self._stopping.is_set():
                    return
                if not away:
                    log.warning("spans cannot be sent", to=self._name, error=describe(error))
                pause, away = min(pause * 2, _LONGEST_PAUSE), True
                continue
            if away:
                log.info("spans are sent again", to=self._name, dropped=self.dropped)
            pause, away = INTERVAL, False

    async def _send_batch(self) -> None:
        waiting = self._waiting
        parts: list[Sequence[bytes]] = [[waiting.popleft() for _ in range(min(BATCH, len(waiting)))]]
        try:
            await send_apart(parts, self._send_part, Refused, self._refused)
        finally:  # what is left was not sent
            self._put_back([span for part in parts for span in part])

    async def _send_part(self, spans: Sequence[bytes]) -> None:
        await self._send(encode_export(self._head, spans))

    def _put_back(self, spans: Sequence[bytes]) -> None:
        too_many = max(0, len(spans) - (QUEUE - len(self._waiting)))
        self.dropped += too_many
        self._waiting.extendleft(reversed(spans[too_many:]))

    def _refused(self, spans: Sequence[bytes], error: Exception) -> None:
        self.dropped += len(spans)
        log.warning("spans are refused", by=self._name, refused=len(spans), dropped=self.dropped, error=describe(error))


EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def to_telemetry(channel: grpc.aio.Channel, tokens: TokenSource) -> Send:
    """Our own telemetry service."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)

    async def send(request: bytes) -> object:
        metadata = (("authorization", f"Bearer {tokens.token('telemetry')}"),)
        return await _taken(call(request, timeout=TIMEOUT, metadata=metadata))

    return send


def to_grpc(channel: grpc.aio.Channel, headers: Mapping[str, str]) -> Send:
    """Any OTLP/gRPC backend."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)
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
