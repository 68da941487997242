"""What follows when a turn cannot go on now: it is tried again later, or nobody can answer it."""

import random
from datetime import timedelta

from services.dialog.domain.retry import (
    ATTEMPTS,
    FAULTS,
    LEFT_TO_NEWER,
    Delays,
    TryAgain,
    after_trouble,
)
from services.dialog.domain.turns import (
    Claimed,
    DeadLetter,
    Unreadable,
    error_text,
)
from services.dialog.ports import Faulty, NotNow
from services.kernel.errors import Kind, ParleyError
from services.runtime.lanes import Lease
from services.runtime.logs import get_logger

log = get_logger(__name__)

LOOK_AGAIN = timedelta(seconds=1)
"""When a lane is due for others that only a newer version can read."""
QUIET = 4
"""Waits in a row for a service that is away before a message says so."""


def stopped_by(error: Exception) -> NotNow:
    """What has stopped a turn: something away, which waits for it, or a fault."""
    if isinstance(error, NotNow):
        return error
    if isinstance(error, ParleyError) and error.kind is Kind.UNAVAILABLE:
        return NotNow(str(error))
    log.error("a turn failed", exc_info=error)
    return Faulty(f"unexpected {type(error).__name__}")


def waits_for(error: NotNow, lease: Lease, *, planned: bool, attempts: int | None = None) -> TryAgain:
    """A service that the turn needs is away or at fault. `planned`: only effects are left to be carried out.

    `attempts` is what the message says of them from now on; None leaves it.
    """
    fault = isinstance(error, Faulty)
    before = Delays.of(lease.delays)
    delay, delays = after_trouble(before, fault=fault, jitter=random.random())  # noqa: S311 - no secret
    log.warning("a turn waits", lane_id=str(lease.lane_id), error=str(error), delays=delays.total)
    told = planned or fault or before.total >= QUIET
    return TryAgain(
        delay,
        counted=False,
        delays=delays.stored,
        failed=fault and not planned,
        attempts=attempts,
        error=error_text("INTERNAL" if fault else "STORAGE_UNAVAILABLE", error) if told else "",
    )


def left_to_newer(item: Unreadable) -> TryAgain | DeadLetter:
    """A lane is left to a newer version, if there may be one; else its message is a dead letter, and the lane goes on.
    What was committed of the turn is kept, and shown as far as it can be read."""
    error = error_text("UNREADABLE", item.why)
    again = until_newer(item.lease, error) if item.newer else None
    return again or DeadLetter(item.message_id, "UNREADABLE", error, item.chat)


def until_newer(lease: Lease, error: str = "") -> TryAgain | None:
    """Others look at a lane, as one of them may be of a newer version; None when they had their time."""
    before = Delays.of(lease.delays)
    if before.faults >= LEFT_TO_NEWER:
        return None
    _, delays = after_trouble(before, fault=True)
    return TryAgain(LOOK_AGAIN, counted=False, delays=delays.stored, error=error)


def without_bot(claimed: Claimed) -> DeadLetter:
    """Nobody can answer before the bot exists."""
    head = claimed.head
    error = f"BOT_NOT_FOUND: There is no bot {head.request.bot_id!r}."
    return DeadLetter(head.message_id, "BOT_NOT_FOUND", error, head.chat, claimed.lease.attempts)


def faulty(claimed: Claimed, error: NotNow) -> DeadLetter:
    """Not even an apology can be planned."""
    head = claimed.head
    return DeadLetter(head.message_id, "INTERNAL", error_text("INTERNAL", error), head.chat, claimed.lease.attempts)


def killed_too_many(claimed: Claimed) -> bool:
    """Whether a message is given up since it kills its workers: so many died that had taken it alone."""
    return claimed.lease.alone and claimed.lease.attempts > ATTEMPTS


def too_many_faults(claimed: Claimed, error: NotNow) -> bool:
    """Whether a turn that is not decided yet is given up."""
    return isinstance(error, Faulty) and Delays.of(claimed.lease.delays).faults + 1 >= FAULTS
