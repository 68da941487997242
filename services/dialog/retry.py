"""What follows a failed decision."""

from dataclasses import dataclass
from datetime import timedelta

from services.dialog.domain import FailureKind

ATTEMPTS = 3
"""Decisions that are begun for one message before it is given up."""
LONGEST_WAIT = 300.0
"""Seconds that a model's endpoint may ask for at most."""
SPREAD = 0.2
"""Share of a delay by which it varies, so that turns that failed together do not come back together."""


@dataclass(frozen=True)
class TryAgain:
    """The message keeps its place; its lane is due after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    """The person gets the bot's error message; the message is TERMINAL."""


def after_failure(
    kind: FailureKind, attempts: int, *, retry_after: float | None = None, jitter: float = 0.5
) -> TryAgain | GiveUp:
    """Decide after `attempts` decisions, the last of which failed.

    delay = 2^(attempts - 1) s, varied by up to 20 % either way, and no less than `retry_after`:

    >>> after_failure(FailureKind.RETRYABLE, 1)
    TryAgain(delay=datetime.timedelta(seconds=1))
    >>> after_failure(FailureKind.RETRYABLE, 2)
    TryAgain(delay=datetime.timedelta(seconds=2))
    >>> after_failure(FailureKind.RETRYABLE, 3)
    GiveUp()
    >>> after_failure(FailureKind.TERMINAL, 1)
    GiveUp()

    `jitter` is a random number from 0 to 1, `retry_after` in seconds as the model's endpoint said.
    """
    if kind is not FailureKind.RETRYABLE or attempts >= ATTEMPTS:
        return GiveUp()
    delay: float = 2 ** (attempts - 1) * (1 + SPREAD * (2 * jitter - 1))
    return TryAgain(timedelta(seconds=max(delay, min(retry_after or 0.0, LONGEST_WAIT))))
