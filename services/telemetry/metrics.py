"""What the telemetry service measures."""

from dataclasses import asdict

from services.runtime.metrics import Counter, Gauge, Metrics
from services.telemetry.usecases import Sink

SPANS = Counter(
    "parley.telemetry.spans", "{span}", "Spans, by their `fate`: received, stored, refused, dropped.", "fate"
)
WAITING = Gauge("parley.telemetry.spans.waiting", "{span}", "Spans that wait to be stored.")


def watch(metrics: Metrics, sink: Sink) -> None:
    """Measure what the sink counts."""
    metrics.watch(SPANS, lambda: asdict(sink.counts))
    metrics.watch(WAITING, lambda: sink.waiting)
