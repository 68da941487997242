"""All algorithms that a rule can have."""

from pathlib import Path

from services.limits.domain.algorithms.base import Algorithm
from services.limits.domain.algorithms.calendar_quota import Budget, CalendarQuota
from services.limits.domain.algorithms.concurrency import Concurrency
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.algorithms.token_bucket import TokenBucket

ALGORITHMS: dict[str, type[Algorithm]] = {
    each.kind: each for each in (CalendarQuota, SlidingWindow, TokenBucket, Concurrency, Budget)
}
"""By the name of their field in the contract."""


def scripts() -> str:
    """Returns the parts of the Redis scripts that count, one after the other."""
    return "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("*.lua")))
