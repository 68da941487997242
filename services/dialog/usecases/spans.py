"""Spans of a turn. What is not sampled costs a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, Tracer

from parley_client.tracing import context_from
from services.runtime.logs import get_logger
from services.runtime.tracing import spans

log = get_logger(__name__)

LONGEST_SHOWN = 2_000
"""Characters of one text in a span or a line of the log."""


def tracer() -> Tracer:
    """Makes the spans of dialog. Ask for it where it is used."""
    return spans.tracer("parley.dialog")


@contextmanager
def consumer(name: str, traceparent: str, tracestate: str) -> Iterator[Span]:
    """The span of work that came through a queue: below the producer's span, and linked to it."""
    parent = context_from(traceparent, tracestate)
    produced = trace.get_current_span(parent).get_span_context()
    if not produced.trace_flags.sampled:
        token = otel.attach(parent)
        try:
            yield INVALID_SPAN
        finally:
            otel.detach(token)
        return
    links = [Link(produced)]
    with spans.current(tracer().start_span(name, parent, SpanKind.CONSUMER, links=links)) as span:
        yield span


@contextmanager
def child(name: str, attributes: Mapping[str, str] | None = None) -> Iterator[Span]:
    """A span below the current one, when that is recorded. An exception marks it as failed."""
    if not trace.get_current_span().is_recording():
        yield INVALID_SPAN
        return
    with spans.current(tracer().start_span(name, attributes=attributes)) as span:
        yield span


def link(traceparent: str, tracestate: str) -> None:
    """Link the current span to another message's trace, which it also answers."""
    span = trace.get_current_span()
    if span.is_recording():
        span.add_link(trace.get_current_span(context_from(traceparent, tracestate)).get_span_context())


def show(what: str, texts: Sequence[str], turn_id: UUID) -> None:
    """Put the texts of messages or replies on the current span and into the log; only where that is switched on."""
    shown = [text[:LONGEST_SHOWN] for text in texts]
    log.info("the text of a turn", turn_id=str(turn_id), **{what: shown})
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute(f"parley.{what}", shown)


def failed(reason: str) -> None:
    """Mark the current span, whose work failed without an exception."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("error.type", reason)
        span.set_status(Status(StatusCode.ERROR, reason))
