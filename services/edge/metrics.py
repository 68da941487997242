"""What the edge measures."""

from services.edge.server.door import Door
from services.runtime.metrics import Counter, Gauge, Metrics

CONNECTIONS = Gauge("parley.edge.connections", "{connection}", "Open connections of callers.")
REQUESTS = Gauge("parley.edge.requests.running", "{request}", "Requests that are being answered.")
REFUSED = Counter(
    "parley.edge.refused", "{request}", "What was refused for its size, time or number, by `kind`.", "kind"
)


def watch(metrics: Metrics, door: Door) -> None:
    """Measure what the door counts."""
    metrics.watch(CONNECTIONS, lambda: len(door.guests))
    metrics.watch(REQUESTS, lambda: len(door.tasks))
    metrics.watch(REFUSED, lambda: dict(door.refused))
