"""OpenTelemetry's tracing API, implemented for a process whose spans must cost next to nothing.

The SDK takes about 57 microseconds to start and end a span, and 50 more to encode it; here all of it takes about 15.
What is left out: span processors, limits by environment, instrumentation scopes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from secrets import token_bytes
from time import time_ns
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from services.runtime.logs import describe
from services.runtime.tracing.otlp import Event, encode_span
from services.runtime.tracing.sampling import Sampler

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_MOST_EVENTS = 128

Sink = Callable[[bytes], None]
"""Takes an encoded span; neither blocks nor raises."""


class RecordedSpan(Span):
    """A span that is encoded when it ends. Of a failure it says what a log would say, so no text of a message."""

    __slots__ = (
        "_attributes",
        "_context",
        "_events",
        "_kind",
        "_links",
        "_message",
        "_name",
        "_parent",
        "_record_exception",
        "_set_status",
        "_sink",
        "_started",
        "_status",
    )

    def __init__(
        self,
        sink: Sink,
        context: SpanContext,
        parent: SpanContext | None,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link],
        started: int,
        record_exception: bool,
        set_status: bool,
    ) -> None:
        self._sink: Sink | None = sink
        self._context = context
        self._parent = parent
        self._name = name
        self._kind = kind
        self._attributes: dict[str, Any] = dict(attributes) if attributes else {}
        self._links = [(link.context, link.attributes or {}) for link in links]
        self._events: list[Event] = []
        self._started = started
        self._status = StatusCode.UNSET
        self._message = ""
        self._record_exception = record_exception
        self._set_status = set_status

    def end(self, end_time: int | None = None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink(
                encode_span(
                    self._context,
                    self._parent,
                    self._name,
                    self._kind.value,
                    self._started,
                    end_time or time_ns(),
                    self._attributes,
                    self._events,
                    self._links,
                    self._status.value,
                    self._message,
                )
            )

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._sink is not None

    def set_attribute(self, key: str, value: Any) -> None:
        self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._attributes.update(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if len(self._events) < _MOST_EVENTS:
            self._events.append((name, timestamp or time_ns(), attributes or {}))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._links.append((context, attributes or {}))

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        code = status.status_code if isinstance(status, Status) else status
        message = status.description if isinstance(status, Status) else description
        if code is not StatusCode.UNSET and self._status is not StatusCode.OK:
            self._status, self._message = code, message or ""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        said = {"exception.type": f"{kind.__module__}.{kind.__qualname__}", "exception.message": describe(exception)}
        self.add_event("exception", {**said, **(attributes or {})}, timestamp)

    def fail(self, exception: BaseException, record_exception: bool, set_status: bool) -> None:
        """Note that the work of this span ended with an exception."""
        if record_exception:
            self.record_exception(exception)
        if set_status:
            self.set_status(StatusCode.ERROR, describe(exception))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if isinstance(exc_val, Exception):
            self.fail(exc_val, self._record_exception, self._set_status)
        self.end()


class LeanTracer(Tracer):
    """Makes spans. Below a span that is not recorded it makes none: the same context is passed on."""

    def __init__(self, sampler: Sampler, sink: Sink, random_bits: Callable[[int], int]) -> None:
        self._sampler = sampler
        self._sink = sink
        self._random_bits = random_bits

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        current = trace.get_current_span(context)
        parent: SpanContext | None = current.get_span_context()
        assert parent is not None
        if parent.is_valid:
            if not parent.trace_flags & TraceFlags.SAMPLED:
                return current
            trace_id, state = parent.trace_id, parent.trace_state
        else:
            trace_id, state, parent = self._random_bits(128), None, None
            if not self._sampler.takes(trace_id):
                return NonRecordingSpan(SpanContext(trace_id, self._random_bits(64), False, _UNSAMPLED))
        return RecordedSpan(
            self._sink,
            SpanContext(trace_id, self._random_bits(64), False, _SAMPLED, state),
            parent,
            name,
            kind,
            attributes,
            links or (),
            start_time or time_ns(),
            record_exception,
            set_status_on_exception,
        )

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            yield span
        except Exception as error:
            if isinstance(span, RecordedSpan) and span.is_recording():
                span.fail(error, record_exception, set_status_on_exception)
            raise
        finally:
            otel_context.detach(token)
            if end_on_exit:
                span.end()


PUBLIC = "parley.public"
"""Name of the tracer for those whom nobody knows."""


class LeanProvider(TracerProvider):
    """Gives one tracer to all, but to what is `PUBLIC`, whose new traces `public` bounds."""

    def __init__(self, sampler: Sampler, sink: Sink, public: Sampler | None = None) -> None:
        bits = Random(token_bytes(32)).getrandbits  # noqa: S311 - ids, no secrets
        self._tracer = LeanTracer(sampler, sink, bits)
        self._public = LeanTracer(public, sink, bits) if public is not None else self._tracer

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        return self._public if instrumenting_module_name == PUBLIC else self._tracer
