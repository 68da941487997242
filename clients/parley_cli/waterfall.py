"""A trace as a tree with times, with waiting in queues apart from work. Pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley.telemetry.v1 import telemetry_pb2

WAITING_FROM = 0.05
"""Milliseconds from which a wait in a queue gets a line."""


@dataclass(frozen=True)
class Line:
    """One line of the waterfall. Times are in milliseconds; `start` counts from the beginning of the trace."""

    depth: int
    start: float
    duration: float
    name: str
    service: str = ""
    failed: bool = False
    waiting: bool = False
    detail: str = ""


def milliseconds(value: Timestamp | Duration) -> float:
    """Converts a time since 1970, or a duration, to milliseconds."""
    return value.seconds * 1e3 + value.nanos / 1e6


def ends(span: telemetry_pb2.Span) -> float:
    return milliseconds(span.started_at) + milliseconds(span.duration)


def lines(spans: Sequence[telemetry_pb2.Span]) -> list[Line]:
    """Returns the waterfall: each span under its parent, by start. Spans whose parent was not kept are at the left."""
    if not spans:
        return []
    ordered = sorted(spans, key=lambda span: milliseconds(span.started_at))
    known = {span.span_id: span for span in ordered}
    children: dict[str, list[telemetry_pb2.Span]] = defaultdict(list)
    for span in ordered:
        children[span.parent_id if span.parent_id in known else ""].append(span)
    began = milliseconds(ordered[0].started_at)
    return list(below(None, 0, began, children))


def below(
    parent: telemetry_pb2.Span | None, depth: int, began: float, children: dict[str, list[telemetry_pb2.Span]]
) -> Iterator[Line]:
    """Yields the lines under a span, with a line for the wait before each consumer.

    If work was taken several times, the wait for the second time begins at the end of the first, and so on.
    """
    free_since = ends(parent) if parent is not None and parent.kind == telemetry_pb2.SPAN_KIND_PRODUCER else None
    for span in children.get(parent.span_id if parent is not None else "", ()):
        start = milliseconds(span.started_at)
        if free_since is not None and span.kind == telemetry_pb2.SPAN_KIND_CONSUMER:
            if start - free_since > WAITING_FROM:
                name = f"waiting for {queue_of(span)}"
                yield Line(depth, free_since - began, start - free_since, name, waiting=True)
            free_since = max(free_since, ends(span))
        yield Line(
            depth=depth,
            start=start - began,
            duration=milliseconds(span.duration),
            name=short(span.name),
            service=span.service,
            failed=span.status == telemetry_pb2.SPAN_STATUS_ERROR,
            detail=detail_of(span),
        )
        yield from below(span, depth + 1, began, children)


def short(name: str) -> str:
    """Returns `ContextService/GetContext` for `parley.context.v1.ContextService/GetContext`."""
    service, slash, method = name.partition("/")
    return f"{service.rpartition('.')[2]}/{method}" if slash and service.startswith("parley.") else name


def queue_of(span: telemetry_pb2.Span) -> str:
    """Returns `inbox` for `process inbox`."""
    return span.name.removeprefix("process ").split(" ")[0]


def detail_of(span: telemetry_pb2.Span) -> str:
    """Returns what a person wants to know about a span besides its name."""
    known = span.attributes
    parts = [
        known[name]
        for name in ("http.response.status_code", "rpc.status_code", "rpc.response.status_code")
        if known.get(name)
    ]
    tokens = [
        known[f"gen_ai.usage.{name}_tokens"] for name in ("input", "output") if known.get(f"gen_ai.usage.{name}_tokens")
    ]
    if tokens:
        parts.append(f"{' + '.join(tokens)} tokens")
    if span.status == telemetry_pb2.SPAN_STATUS_ERROR:
        parts.append(span.status_message or known.get("error.type", ""))
    return " ".join(dict.fromkeys(part for part in parts if part and part != "OK"))


def total(shown: Iterable[Line]) -> float:
    """Returns milliseconds from the first start to the last end."""
    known = list(shown)
    return max((line.start + line.duration for line in known), default=0.0) - min(
        (line.start for line in known), default=0.0
    )


def waiting(shown: Iterable[Line]) -> float:
    """Returns milliseconds spent in queues; overlapping waits count once."""
    waits = sorted((line.start, line.start + line.duration) for line in shown if line.waiting)
    covered, until = 0.0, float("-inf")
    for start, end in waits:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
