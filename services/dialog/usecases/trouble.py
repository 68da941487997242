"""What becomes of a lane when its turn cannot go on now, or ever."""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from services.dialog.domain import DecisionError
from services.dialog.retry import ATTEMPTS, FAULTS, LEFT_TO_NEWER, Delays, TryAgain, after_trouble
from services.dialog.turns import Claimed, Finish, PutOff, State, Unreadable, error_text
from services.dialog.usecases import spans
from services.dialog.usecases.patience import until_stored
from services.dialog.usecases.ports import Chats, Faulty, NotNow, Turns
from services.kernel.errors import Kind, ParleyError
from services.runtime import crashpoints
from services.runtime.lanes import Lease
from services.runtime.logs import get_logger

log = get_logger(__name__)

LEAVE = 8.0
"""Seconds for which this process takes no lane of a bot of which only a newer version can read something."""
LOOK_AGAIN = timedelta(seconds=1)
"""When such a lane is due for others."""
QUIET = 4
"""Waits in a row for a service that is away before a message says so."""


class Trouble:
    """Puts lanes off, and ends what cannot be answered. Raises LeaseLost everywhere."""

    def __init__(
        self, turns: Turns, chats: Chats, wake: Callable[[float], None], leave: Callable[[Lease, float], None]
    ) -> None:
        """`wake` tells the dispatcher in how many seconds a lane is due, `leave` for how long to take none like it."""
        self._turns = turns
        self._chats = chats
        self._wake = wake
        self._leave = leave

    async def later(self, claimed: Claimed, seconds: float) -> None:
        """The lane goes for a while; nothing has failed."""
        await until_stored(lambda: self._turns.release([claimed.lease], timedelta(seconds=seconds)))
        self._wake(seconds)

    async def failed(self, claimed: Claimed, error: DecisionError, what: TryAgain) -> None:
        """A decision failed, and is tried again."""
        head, delay = claimed.head, what.delay
        attempts = claimed.lease.attempts - (not what.counted)
        log.warning(
            "a decision failed",
            message_id=str(head.message_id),
            reason=error.reason,
            attempts=attempts,
            delay=delay.total_seconds(),
        )
        spans.failed(error.reason)
        await self._put_off(
            PutOff(
                lease=claimed.lease,
                message_ids=[head.message_id],
                due_in=delay,
                delays=0,
                counted=what.counted,
                state=State.FAILED,
                attempts=attempts,
                last_error=error_text(error.reason, error),
            )
        )
        crashpoints.reach("dialog.after_model_failure")

    async def waits(self, claimed: Claimed, error: NotNow, *, planned: bool, attempts: int | None = None) -> None:
        """A service that the turn needs is away or at fault. `planned`: only effects are left to be carried out.

        `attempts` is what the message says of them from now on; None leaves it.
        """
        lease, fault = claimed.lease, isinstance(error, Faulty)
        before = Delays.of(lease.delays)
        due_in, delays = after_trouble(before, fault=fault, jitter=random.random())  # noqa: S311 - no secret
        message_id = claimed.head.message_id
        log.warning("a turn waits", message_id=str(message_id), error=str(error), delays=delays.total)
        told = planned or fault or before.total >= QUIET
        await self._put_off(
            PutOff(
                lease=lease,
                message_ids=[message_id],
                due_in=due_in,
                delays=delays.stored,
                state=State.FAILED if fault and not planned else None,
                attempts=attempts,
                last_error=error_text("INTERNAL" if fault else "STORAGE_UNAVAILABLE", error) if told else "",
            )
        )

    async def unreadable(self, item: Unreadable) -> bool:
        """Leave a lane to a newer version, if there may be one; else its message is a dead letter.

        The lane goes on. What was committed of the turn is kept, and shown as far as it can be read.
        """
        lease, error = item.lease, error_text("UNREADABLE", item.why)
        before = Delays.of(lease.delays)
        if item.newer and before.faults < LEFT_TO_NEWER:
            self._leave(lease, LEAVE)
            _, delays = after_trouble(before, fault=True)
            await self._put_off(PutOff(lease, [item.message_id], LOOK_AGAIN, delays.stored, last_error=error))
            return False
        return await self.dead(lease, [item.message_id], "UNREADABLE", error, chat=item.chat)

    async def dead(
        self, lease: Lease, message_ids: Sequence[UUID], reason: str, error: str, *, chat: str = "", attempts: int = 0
    ) -> bool:
        """Nobody can answer: dead letters, which can be retried. Whether more waits in the lane."""
        spans.failed(reason)
        log.error("a message cannot be answered", message_id=str(message_ids[0]), reason=reason, error=error)
        item = Finish(
            lease=lease,
            turn_id=None,
            message_ids=message_ids,
            state=State.TERMINAL,
            attempts=attempts or None,
            last_error=error,
            terminal_reason=reason,
        )
        pending = await until_stored(lambda: self._turns.finish(item))
        if chat:
            self._chats.done(chat, message_ids[-1])
        return pending > 0

    async def _put_off(self, item: PutOff) -> None:
        await until_stored(lambda: self._turns.put_off(item))
        self._wake(item.due_in.total_seconds())


def killed_too_many(claimed: Claimed) -> bool:
    """Whether a message is given up since it kills its workers: so many died that had taken it alone."""
    return claimed.lease.alone and claimed.lease.attempts > ATTEMPTS


def why(error: Exception) -> NotNow:
    """What has stopped a turn: something away, which waits for it, or a fault."""
    if isinstance(error, NotNow):
        return error
    if isinstance(error, ParleyError) and error.kind is Kind.UNAVAILABLE:
        return NotNow(str(error))
    log.error("a turn failed", exc_info=error)
    return Faulty(f"unexpected {type(error).__name__}")


def too_many_faults(claimed: Claimed, error: NotNow) -> bool:
    """Whether a turn that is not decided yet is given up."""
    return isinstance(error, Faulty) and Delays.of(claimed.lease.delays).faults + 1 >= FAULTS
