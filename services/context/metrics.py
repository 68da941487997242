"""What the context service measures."""

from collections.abc import Callable

from services.context.usecases.statistics import Stats, percentile
from services.runtime.metrics import Counter, Gauge, Metrics

HITS = Counter("parley.context.hits", "{read}", "Reads that a cache `level` has answered.", "level")
MISSES = Counter("parley.context.misses", "{read}", "Reads that a cache `level` could not answer.", "level")
ENTRIES = Gauge("parley.context.memory.entries", "{entry}", "Entries in the memory of the process.")
READ = Gauge("parley.context.read.time", "s", "Time of the last 1,000 reads, by `quantile`.", "quantile")
SAVE = Gauge("parley.context.save.time", "s", "Time of the last 1,000 saves, by `quantile`.", "quantile")
LEVELS = {1: "memory", 2: "redis", 3: "postgres"}
QUANTILES = (0.5, 0.99)


def watch(metrics: Metrics, stats: Stats, entries: Callable[[], int]) -> None:
    """Measure what the statistics count."""
    metrics.watch(HITS, lambda: {name: stats.hits[level] for level, name in LEVELS.items()})
    metrics.watch(MISSES, lambda: {name: stats.misses[level] for level, name in LEVELS.items()})
    metrics.watch(ENTRIES, entries)
    metrics.watch(READ, lambda: {str(share): percentile(stats.reads, share) / 1e6 for share in QUANTILES})
    metrics.watch(SAVE, lambda: {str(share): percentile(stats.saves, share) / 1e6 for share in QUANTILES})
