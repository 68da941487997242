"""Spans of requests."""

from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from parley_client.tracing import links_from

_OF_TRACES = (b"traceparent", b"tracestate")
_tracer = trace.get_tracer("parley.edge")


def start(name: str, headers: Iterable[tuple[bytes, bytes]]) -> Span:
    """Starts the span of a request, in a trace of its own.

    It links the caller's own span: we do not write into the caller's trace, nor does the caller decide what we record.
    """
    given = {key: value.decode("latin-1") for key, value in headers if key in _OF_TRACES}
    links = links_from(given.get(b"traceparent", ""), given.get(b"tracestate", "")) if given else ()
    return _tracer.start_span(name, kind=SpanKind.SERVER, links=links)


def note_status(span: Span, status: int) -> None:
    """Notes how the request was answered."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
