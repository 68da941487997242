"""Spans of work: current while it goes on, and marked when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider

from services.runtime.logs import describe


def tracer(name: str) -> Tracer:
    """A tracer of the process's provider. Ask for it where it is used: the provider may be set at any time."""
    return _found(trace.get_tracer_provider(), name)


@lru_cache(64)
def _found(provider: TracerProvider, name: str) -> Tracer:
    return provider.get_tracer(name)  # the SDK takes five microseconds to find one again


@contextmanager
def current(span: Span) -> Iterator[Span]:
    """Makes a span the current one, and ends it. An exception marks it as failed.

    Of a failure it says what a log would say: in the SDK's own words it would repeat what a row or a message holds.
    """
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield span
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, describe(error)))
        raise
    finally:
        otel_context.detach(token)
        span.end()
