"""The outbox's spans: `send outbox` when a message is stored, `process outbox` when a worker takes it up.

The trace context in the delivery's row links the two. A trace that is not recorded costs next to nothing here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, StatusCode, TraceFlags

from parley_client.tracing import context_from, headers_of
from services.delivery.domain.outbox import Queued
from services.runtime.tracing.spans import tracer

Headers = tuple[str, str]
"""`traceparent` and `tracestate`; empty without a trace."""


def stored(parent: Context | None, tenant_id: str, delivery_id: str, message_id: str) -> tuple[Span, Headers]:
    """A PRODUCER span below `parent`, to be ended after the commit, and the headers to store."""
    current = trace.get_current_span(parent)
    if not current.get_span_context().trace_flags.sampled:
        return INVALID_SPAN, headers_of(current.get_span_context())
    span = tracer("parley.delivery").start_span(
        "send outbox",
        parent,
        SpanKind.PRODUCER,
        {"parley.tenant_id": tenant_id, "parley.delivery_id": delivery_id, "parley.message_id": message_id},
    )
    return span, headers_of(span.get_span_context())


def sent_again(parent: Context | None, traceparent: str, tenant_id: str, delivery_id: str) -> tuple[Span, Headers]:
    """A PRODUCER span that begins a new trace: an operator wants a delivery sent again. It links to both pasts."""
    links = [Link(trace.get_current_span(parent).get_span_context())]
    links.append(Link(trace.get_current_span(context_from(traceparent)).get_span_context()))
    span = tracer("parley.delivery").start_span(
        "send outbox",
        Context(),
        SpanKind.PRODUCER,
        {"parley.tenant_id": tenant_id, "parley.delivery_id": delivery_id},
        [link for link in links if link.context.is_valid],
    )
    return span, headers_of(span.get_span_context())


def failed(span: Span, error: BaseException) -> None:
    """It was not stored."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)


@contextmanager
def processing(delivery: Queued) -> Iterator[Span]:
    """A CONSUMER span in the delivery's trace, as the current one."""
    stored = context_from(delivery.traceparent, delivery.tracestate)
    origin = trace.get_current_span(stored).get_span_context()
    span: Span = INVALID_SPAN
    if origin.trace_flags & TraceFlags.SAMPLED:
        attributes = {
            "parley.tenant_id": delivery.tenant_id,
            "parley.delivery_id": str(delivery.delivery_id),
            "parley.message_id": str(delivery.message_id or ""),
        }
        span = tracer("parley.delivery").start_span(
            "process outbox", stored, SpanKind.CONSUMER, attributes, [Link(origin)]
        )
        stored = trace.set_span_in_context(span, stored)
    token = otel.attach(stored)
    try:
        yield span
    except Exception as error:
        failed(span, error)
        raise
    finally:
        otel.detach(token)
        span.end()
