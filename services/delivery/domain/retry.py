"""When a part is tried again. Pure: the time and the jitter come in, a decision goes out."""

from dataclasses import dataclass
from enum import Enum


class UnknownPolicy(Enum):
    """What to do when nobody can tell whether a part was sent."""

    RETRY = "retry"
    """Try again on schedule, marked possibly duplicate."""
    HOLD = "hold"
    """Wait for the provider's status first, for `hold_seconds`; then as RETRY."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The outbox's schedule. Times in seconds."""

    tries: int = 50
    first_delay: float = 1.0
    longest_delay: float = 300.0
    exact_tries: int = 3
    """The first delays are exact (1, 2, 4 s); later ones are shortened by chance, to spread retries out."""
    spread: float = 0.2
    """By how much a later delay may be shortened: 0.2 is up to a fifth."""
    patience: float = 600.0
    """For so long a failing part holds its conversation up; then it is retried beside it."""
    unknown: UnknownPolicy = UnknownPolicy.RETRY
    hold_seconds: float = 60.0
    unknown_delay: float = 3.0
    """A part of unknown outcome waits at least so long for a status that says what came of it."""
    rate_limit_delay: float = 5.0
    """Wait after a 429 that names no time."""
    rate_limit_least: float = 1.0
    """Wait after a 429 at least, whatever time it names; its channel waits longer each time in a row."""


def delay_after(policy: RetryPolicy, tries: int, chance: float) -> float | None:
    """Seconds to wait after the try number `tries` (from 1) has failed; None when there is no further try.

    The delay is `min(first_delay * 2**(tries - 1), longest_delay)`: 1, 2, 4, 8, 16, 32, 64, 128, 256, 300 ...
    From the fourth on it is shortened by `spread * chance`, where `chance` is random in [0, 1).
    """
    if tries >= policy.tries:
        return None
    delay = min(policy.first_delay * 2.0 ** min(tries - 1, 60), policy.longest_delay)
    return delay if tries <= policy.exact_tries else delay * (1.0 - policy.spread * chance)
