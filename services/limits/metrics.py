"""What the limits service measures."""

from collections.abc import Mapping

from services.runtime.metrics import Counter, Metrics

RESERVATIONS = Counter(
    "parley.limits.reservations",
    "{reservation}",
    "Answers to Reserve, by `outcome`: granted, refused, failed.",
    "outcome",
)


def watch(metrics: Metrics, decided: Mapping[str, float]) -> None:
    """Measures what the servicer counts."""
    metrics.watch(RESERVATIONS, lambda: dict(decided))
