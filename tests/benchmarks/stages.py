"""Where a message's time goes, from the spans that telemetry kept of the run's own traces."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from google.protobuf import duration_pb2, timestamp_pb2

from parley.telemetry.v1 import telemetry_pb2

from parley_client.errors import CallError
from parley_client.telemetry import TelemetryClient
from services.runtime.batches import BATCH_ITEMS
from tests.benchmarks.measure import quantile

TRACES = 200
"""Traces that are read after a run, the newest ones."""
EXPORTED_WITHIN = 3.0
"""Seconds after which spans have arrived."""

BOUNDARIES = (
    ("edge: parse and store", "from the webhook to its commit"),
    ("waits in the inbox", "until a worker has it"),
    ("turn", "context, decision, plan committed"),
    ("hand over", "the reply stored by delivery"),
    ("waits in the outbox", "until a sender has it"),
    ("prepare to send", "rate asked for, attempt recorded"),
    ("provider", "the HTTP call"),
)


@dataclass(frozen=True)
class Stage:
    """One stage of the way. Times in ms; the shares of all stages add up to 1."""

    name: str
    meaning: str
    mean_ms: float
    p99_ms: float
    share: float


@dataclass(frozen=True)
class SpanCost:
    """All spans of one name in one service."""

    service: str
    name: str
    per_message: float
    mean_ms: float


@dataclass
class Breakdown:
    """What the traces of a run say."""

    traces: int = 0
    stages: list[Stage] = field(default_factory=list)
    spans: list[SpanCost] = field(default_factory=list)
    spans_per_message: float = 0.0
    rpcs_per_message: float = 0.0
    """RPCs that carried messages; a batch counts once, shared by its items."""


async def break_down(client: TelemetryClient, tenant_id: str) -> Breakdown:
    """Read the newest traces and say where their time went."""
    await asyncio.sleep(EXPORTED_WITHIN)
    found = await client.find_traces(
        telemetry_pb2.FindTracesRequest(tenant_id=tenant_id, service="edge", page_size=TRACES), timeout=30.0
    )
    traces: list[Sequence[telemetry_pb2.Span]] = []
    for summary in found.traces:
        request = telemetry_pb2.GetTraceRequest(tenant_id=tenant_id, trace_id=summary.trace_id)
        try:
            traces.append((await client.get_trace(request)).spans)
        except CallError:
            continue  # removed meanwhile
    return digest(traces)


def digest(traces: Iterable[Sequence[telemetry_pb2.Span]]) -> Breakdown:
    """The means over traces that are whole, from the webhook to the provider."""
    ways: list[list[float]] = []
    count: dict[tuple[str, str], int] = defaultdict(int)
    spent: dict[tuple[str, str], float] = defaultdict(float)
    rpcs = 0.0
    for spans in traces:
        way = _way(spans)
        if way is None:
            continue
        ways.append(way)
        for span in spans:
            count[span.service, span.name] += 1
            spent[span.service, span.name] += _ms(span.duration)
            if span.kind == telemetry_pb2.SPAN_KIND_SERVER and span.name.startswith("parley."):
                rpcs += 1 / int(span.attributes.get(BATCH_ITEMS, "1"))
    if not ways:
        return Breakdown()
    number = len(ways)
    whole = sum(map(sum, ways))
    stages = [
        Stage(name, meaning, sum(times) / number, quantile(times, 0.99), sum(times) / whole)
        for (name, meaning), times in zip(BOUNDARIES, map(list, zip(*ways, strict=True)), strict=True)
    ]
    costs = [SpanCost(*key, count[key] / number, spent[key] / count[key]) for key in count]
    costs.sort(key=lambda cost: -cost.per_message * cost.mean_ms)
    return Breakdown(number, stages, costs, sum(count.values()) / number, rpcs / number)


def _way(spans: Sequence[telemetry_pb2.Span]) -> list[float] | None:
    """The lengths of a message's stages in ms, or None when a span is missing."""
    first: dict[str, telemetry_pb2.Span] = {}
    for span in spans:
        if span.kind == telemetry_pb2.SPAN_KIND_SERVER and span.service == "edge":
            first.setdefault("webhook", span)
        elif span.kind in (telemetry_pb2.SPAN_KIND_PRODUCER, telemetry_pb2.SPAN_KIND_CONSUMER):
            first.setdefault(span.name, span)
        elif span.kind == telemetry_pb2.SPAN_KIND_CLIENT and span.service == "delivery" and span.name == "POST":
            first.setdefault("call", span)
    if len(first) < 6:
        return None
    received, handed = first.get("send inbox"), first.get("send outbox")
    taken, sent = first.get("process inbox"), first.get("process outbox")
    if received is None or handed is None or taken is None or sent is None:
        return None
    call = first["call"]
    moments = [
        _at(first["webhook"].started_at),
        _at(received.started_at) + _ms(received.duration),
        _at(taken.started_at),
        _at(handed.started_at),
        _at(handed.started_at) + _ms(handed.duration),
        _at(sent.started_at),
        _at(call.started_at),
        _at(call.started_at) + _ms(call.duration),
    ]
    return [max(0.0, after - before) for before, after in pairwise(moments)]


def _ms(duration: duration_pb2.Duration) -> float:
    return duration.seconds * 1e3 + duration.nanos / 1e6


def _at(moment: timestamp_pb2.Timestamp) -> float:
    return moment.seconds * 1e3 + moment.nanos / 1e6
