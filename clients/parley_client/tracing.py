"""The trace context of calls, as W3C headers and as OpenTelemetry contexts.

A call gets a CLIENT span only below a sampled span. An unsampled context is just passed on, which costs one formatted
string.
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
"""A `tracestate` of another form is dropped here, because OpenTelemetry would log every one that anybody sends."""


def tracer(name: str = "parley_client") -> Tracer:
    """Returns a tracer of the global provider, even if the provider is set later."""
    return trace.get_tracer(name)


def inject() -> tuple[str, str]:
    """Returns `traceparent` and `tracestate` of the current span, or empty strings without one."""
    return headers_of(trace.get_current_span().get_span_context())


def headers_of(context: SpanContext) -> tuple[str, str]:
    """Returns `traceparent` and `tracestate` of a span's context, or empty strings if it is not valid."""
    trace_id, span_id, _, flags, state, is_valid = context  # its properties cost as much as all the rest
    if not is_valid:
        return "", ""
    parent = f"00-{trace_id.to_bytes(16).hex()}-{span_id.to_bytes(8).hex()}-{flags:02x}"  # hex() beats a format
    return parent, state.to_header() if state else ""


def context_from(traceparent: str, tracestate: str = "") -> Context:
    """Returns a context whose current span is the remote one, or an empty context for a malformed `traceparent`."""
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
    """Links to the span that an outside caller names, because we do not write into their trace."""
    context = trace.get_current_span(context_from(traceparent, tracestate)).get_span_context()
    return [Link(context)] if context.is_valid else []


def _parse(traceparent: str) -> SpanContext | None:
    """Parses the usual form, four times as fast as the propagator. Returns None for anything else."""
    if len(traceparent) != 55 or not traceparent.startswith("00-") or traceparent[35] != "-" or traceparent[52] != "-":
        return None
    try:
        trace_id, span_id = bytes.fromhex(traceparent[3:35]), bytes.fromhex(traceparent[36:52])
        flags = bytes.fromhex(traceparent[53:])
    except ValueError:
        return None
    if len(trace_id) != 16 or len(span_id) != 8 or len(flags) != 1:  # fromhex() ignores spaces
        return None
    context = SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), True, TraceFlags(flags[0]))
    return context if context.is_valid else None


class CallSpans:
    """Makes the CLIENT spans of one RPC, following OpenTelemetry's RPC conventions."""

    def __init__(self, method: str) -> None:
        """`method` is the full name without a leading slash: `parley.context.v1.ContextService/GetContext`."""
        self._method = method
        self._tracer = tracer()
        self._attributes: Mapping[str, str] = {RPC_SYSTEM: "grpc", RPC_METHOD: method}

    def start(self) -> tuple[Span | None, str, str]:
        """Returns a span below the current one (None if that is not sampled) and the call's trace headers."""
        current = trace.get_current_span().get_span_context()
        if not current.trace_flags & TraceFlags.SAMPLED:
            return None, *headers_of(current)
        span = self._tracer.start_span(self._method, kind=SpanKind.CLIENT, attributes=self._attributes)
        return span, *headers_of(span.get_span_context())


def finish(span: Span, code: str, message: str = "") -> None:
    """Ends a call's span. For a client, every code but OK is an error."""
    span.set_attribute(RPC_STATUS, code)
    if code != "OK":
        span.set_attribute(ERROR_TYPE, code)
        span.set_status(Status(StatusCode.ERROR, message))
    span.end()


def remote(context: SpanContext) -> Context:
    """Returns a context whose current span is `context`, for work that continues elsewhere."""
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
