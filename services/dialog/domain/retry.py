"""What follows a failed decision."""

from dataclasses import dataclass
from datetime import timedelta
from math import inf

from services.dialog.domain.failures import Blame, DecisionError, FailureKind

ATTEMPTS = 3
"""Decisions that are begun for one message before it is given up."""
LONGEST_WAIT = 300.0
"""Seconds that a model's endpoint may ask for at most."""
SPREAD = 0.2
"""Delays vary by this share of their length, so that turns which failed together do not come back together."""
LATE = 30.0
"""Seconds at least between two attempts once the time for an answer is over."""


FAULTS = 10
"""How often in a row an undecided turn may meet a fault of a service that it needs. Then it is given up."""
OUTAGES = 5
"""Waits for services that are away are counted no further than this."""
MOST_FAULTS = 1_000
"""Faults are counted no further than this."""
LONGEST_DELAY = 15.0
"""Seconds that a lane waits at most before it tries again, so that little time is lost once the services are back."""
LEFT_TO_NEWER = 2
"""How often a lane that only a newer version can read is left for one."""


@dataclass(frozen=True)
class TryAgain:
    """The message keeps its place; its lane is due after `delay`. Only a `counted` attempt is one of the three.

    `delays` is how often in a row the lane was put off by now (`Delays.stored`). What the message says of it: whether
    it is FAILED, its attempts and its error; what is False, None or empty leaves what it says.
    """

    delay: timedelta
    counted: bool = True
    delays: int = 0
    failed: bool = False
    attempts: int | None = None
    error: str = ""


@dataclass(frozen=True)
class TooLate:
    """The model's endpoint is away, and the time for an answer is over: the person gets the bot's error message now,
    and where the bot answers late the lane is due after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    """The person gets the bot's error message; the message is TERMINAL."""


def after_failure(
    error: DecisionError, attempts: int, *, left: float = inf, jitter: float = 0.5
) -> TryAgain | TooLate | GiveUp:
    """Decide after `attempts` decisions, the last of which failed, with `left` seconds of the time for an answer.

    delay = 2^(attempts - 1) s, varied by up to 20 % either way, and no less than the error's `retry_after`:

    >>> failure = DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "away")
    >>> after_failure(failure, 1)
    TryAgain(delay=datetime.timedelta(seconds=1), counted=True)
    >>> after_failure(failure, 2)
    TryAgain(delay=datetime.timedelta(seconds=2), counted=True)
    >>> after_failure(failure, 3)
    GiveUp()

    A message that is not to blame is not given up by counting, but when the time for an answer is over:

    >>> failure.blame = Blame.ENDPOINT
    >>> after_failure(failure, 3, left=50)
    TryAgain(delay=datetime.timedelta(seconds=4), counted=False)
    >>> after_failure(failure, 1, left=0)
    TooLate(delay=datetime.timedelta(seconds=30))

    `jitter` is a random number from 0 to 1.
    """
    if error.kind is not FailureKind.RETRYABLE:
        return GiveUp()
    last = attempts >= ATTEMPTS
    spared = error.blame is Blame.ENDPOINT or (error.blame is Blame.NOBODY and last)
    # One that began late, behind others, is asked for twice at least.
    doubtful = spared or (error.blame is Blame.NOBODY and attempts > 1)
    if last and not spared:
        return GiveUp()
    delay: float = 2 ** (min(attempts, ATTEMPTS) - 1) * (1 + SPREAD * (2 * jitter - 1))
    asked_for = min(error.retry_after or 0.0, LONGEST_WAIT)
    delay = max(delay, asked_for)
    if (doubtful and left <= 0) or asked_for > max(left, LATE):
        return TooLate(timedelta(seconds=max(delay, LATE)))
    return TryAgain(timedelta(seconds=min(delay, left) if spared else delay), counted=not spared)


@dataclass(frozen=True, slots=True)
class Delays:
    """How often in a row a lane was put off, counted apart for outages and for faults: an outage neither adds to the
    faults nor clears them.

    A lane stores both as one number, with the outages in the lowest three bits.
    """

    outages: int = 0
    faults: int = 0

    @classmethod
    def of(cls, stored: int) -> "Delays":
        faults, outages = divmod(stored, 8)
        return cls(outages, faults)

    @property
    def stored(self) -> int:
        return 8 * self.faults + self.outages

    @property
    def total(self) -> int:
        return self.outages + self.faults


def after_trouble(before: Delays, *, fault: bool, jitter: float = 0.5) -> tuple[timedelta, Delays]:
    """When a lane is due again that was put off that often in a row before this time, and its new count.

    delay = 2^(times before) s, at most 15 s, varied by up to 20 % either way:

    >>> after_trouble(Delays(), fault=False)
    (datetime.timedelta(seconds=1), Delays(outages=1, faults=0))
    >>> after_trouble(Delays(outages=5, faults=2), fault=False)
    (datetime.timedelta(seconds=15), Delays(outages=5, faults=2))
    >>> after_trouble(Delays(outages=1, faults=1), fault=True)
    (datetime.timedelta(seconds=4), Delays(outages=1, faults=2))
    """
    delay = min(2.0 ** min(before.total, 10), LONGEST_DELAY) * (1 + SPREAD * (2 * jitter - 1))
    if fault:
        after = Delays(before.outages, min(before.faults + 1, MOST_FAULTS))
    else:
        after = Delays(min(before.outages + 1, OUTAGES), before.faults)
    return timedelta(seconds=delay), after
