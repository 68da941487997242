"""A lane's timer is due: what it is for, once."""

from collections.abc import Awaitable, Callable

from services.dialog.domain.items import DROP_OFF, TimerDue, read_drop_off
from services.dialog.domain.retry import ATTEMPTS
from services.dialog.domain.turns import PutOff
from services.dialog.ports import Turns
from services.dialog.usecases.repeat import until_stored
from services.dialog.usecases.setbacks import until_newer
from services.runtime.lanes import LeaseLost
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)


class RunTimer:
    """The work of a lane whose timer is due. A timer whose work fails is tried again as often as a decision, and then
    given up: nobody waits for it, and what waits behind it goes on."""

    def __init__(self, turns: Turns, leave_to_newer: Callable[[PutOff], Awaitable[bool]]) -> None:
        self._turns = turns
        self._leave_to_newer = leave_to_newer

    async def __call__(self, due: TimerDue) -> bool:
        """Whether something waits in the lane now. Raises LeaseLost."""
        timer, lease = due.timer, due.lease
        if timer.kind != DROP_OFF:
            again = until_newer(lease)
            if again is not None:
                return await self._leave_to_newer(PutOff(lease, None, again))
            return await self._give_up(due, f"a timer of the kind {timer.kind!r} is not known to this version")
        try:
            form = read_drop_off(timer)
            return await until_stored(lambda: self._turns.end_timer(due, form)) > 0
        except LeaseLost:
            raise
        except Exception as error:
            if lease.attempts < ATTEMPTS:
                raise
            return await self._give_up(due, describe(error))

    async def _give_up(self, due: TimerDue, error: str) -> bool:
        log.error("a timer is given up", lane_id=str(due.lease.lane_id), timer=due.timer.kind, error=error, alert=True)
        return await until_stored(lambda: self._turns.end_timer(due, None)) > 0
