"""Trace context of calls, as W3C headers and as OpenTelemetry contexts.

A call gets a CLIENT span only below a sampled span: what is not sampled is passed on and costs one formatted string.
"""

import re
from collections.abc import Mapping

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
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
ERROR_TYPE = "error.type"

_PROPAGATOR = TraceContextTextMapPropagator()
_EMPTY = Context()
_LONGEST_PARENT, _LONGEST_STATE = 128, 512
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE = re.compile(f"{_KEY}={_VALUE}(?:,[ \\t]*{_KEY}={_VALUE}){{0,31}}")
"""What is not of this form is left out here: OpenTelemetry would write each into the log, whoever has sent it."""


def tracer(name: str = "parley_client") -> Tracer:
    """A tracer of the global provider, also of one that is set later."""
    return trace.get_tracer(name)


def inject() -> tuple[str, str]:
    """`traceparent` and `tracestate` of the current span; empty strings when there is none."""
    return headers_of(trace.get_current_span().get_span_context())


def headers_of(context: SpanContext) -> tuple[str, str]:
    """`traceparent` and `tracestate` of a span's context; empty strings when it is not valid."""
    trace_id, span_id, _, flags, state, is_valid = context  # a tuple; its properties cost as much as the rest
    if not is_valid:
        return "", ""
    parent = f"00-{trace_id.to_bytes(16).hex()}-{span_id.to_bytes(8).hex()}-{flags:02x}"  # hex() beats a format
    return parent, state.to_header() if state else ""


def context_from(traceparent: str, tracestate: str = "") -> Context:
    """The context whose current span is the remote one; an empty context when `traceparent` is empty or malformed."""
    if not traceparent or len(traceparent) > _LONGEST_PARENT:
        return _EMPTY
    if tracestate and (len(tracestate) > _LONGEST_STATE or not _STATE.fullmatch(tracestate)):
        tracestate = ""
    if not tracestate:
        remote_context = _parse(traceparent)
        if remote_context is not None:
            return trace.set_span_in_context(NonRecordingSpan(remote_context), _EMPTY)
    carrier = {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}
    return _PROPAGATOR.extract(carrier, Context())


def links_from(traceparent: str, tracestate: str = "") -> list[Link]:
    """A link to the span that a caller from outside names: its trace is its own, and not to be written into."""
    context = trace.get_current_span(context_from(traceparent, tracestate)).get_span_context()
    return [Link(context)] if context.is_valid else []


def _parse(traceparent: str) -> SpanContext | None:
    """The usual form, four times as fast as by the propagator; None for what the propagator must judge."""
    if len(traceparent) != 55 or not traceparent.startswith("00-") or traceparent[35] != "-" or traceparent[52] != "-":
        return None
    try:
        trace_id, span_id = bytes.fromhex(traceparent[3:35]), bytes.fromhex(traceparent[36:52])
        flags = bytes.fromhex(traceparent[53:])
    except ValueError:
        return None
    if len(trace_id) != 16 or len(span_id) != 8 or len(flags) != 1:  # fromhex() skips blanks
        return None
    context = SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), True, TraceFlags(flags[0]))
    return context if context.is_valid else None


class CallSpans:
    """Makes the CLIENT spans of one RPC, by the conventions for RPC of OpenTelemetry."""

    def __init__(self, method: str) -> None:
        """`method`: full name without leading slash, for example `parley.context.v1.ContextService/GetContext`."""
        self._method = method
        self._tracer = tracer()
        self._attributes: Mapping[str, str] = {RPC_SYSTEM: "grpc", RPC_METHOD: method}

    def start(self) -> tuple[Span | None, str, str]:
        """A span below the current one, None when that is not sampled; and the headers that the call must carry."""
        current = trace.get_current_span().get_span_context()
        if not current.trace_flags & TraceFlags.SAMPLED:
            return None, *headers_of(current)
        span = self._tracer.start_span(self._method, kind=SpanKind.CLIENT, attributes=self._attributes)
        return span, *headers_of(span.get_span_context())


def finish(span: Span, code: str, message: str = "") -> None:
    """Ends a call's span. Every code but OK is a client's error."""
    span.set_attribute(RPC_STATUS, code)
    if code != "OK":
        span.set_attribute(ERROR_TYPE, code)
        span.set_status(Status(StatusCode.ERROR, message))
    span.end()


def remote(context: SpanContext) -> Context:
    """A context whose current span is `context`, for work that goes on elsewhere."""
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
