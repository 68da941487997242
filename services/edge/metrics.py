"""What the edge measures."""

from services.edge.server.admission import Admission
from services.runtime.metrics import Counter, Gauge, Metrics

CONNECTIONS = Gauge("parley.edge.connections", "{connection}", "Open connections of callers.")
REQUESTS = Gauge("parley.edge.requests.running", "{request}", "Requests that are being answered.")
REFUSED = Counter(
    "parley.edge.refused", "{request}", "What was refused for its size, time or number, by `kind`.", "kind"
)


def watch(metrics: Metrics, admission: Admission) -> None:
    """Measures what admission counts."""
    metrics.watch(CONNECTIONS, lambda: len(admission.connections))
    metrics.watch(REQUESTS, lambda: len(admission.requests))
    metrics.watch(REFUSED, lambda: dict(admission.refused))
