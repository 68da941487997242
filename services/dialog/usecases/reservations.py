"""What a turn holds of its quota while it is decided."""

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import TurnInput
from services.dialog.domain.turns import Claimed, Frozen, Refused, Reserved, Turn
from services.dialog.ports import Never, NotNow, Quota
from services.runtime import crashpoints
from services.runtime.logs import get_logger

log = get_logger(__name__)


class Reservations:
    """One hold stands for each time that a message is queued.

    An attempt finds the hold of the one before it, and makes a new one when that has expired; an operator's retry
    queues the message anew. Only a committed plan settles a hold: a worker that has lost the lane without knowing it
    can settle nothing that the new owner answers under.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    async def reserve(self, claimed: Claimed, turn: Turn) -> Reserved | Refused:
        """Raises DecisionError for a call that limits will never take, and NotNow."""
        try:
            answer = await self._hold(claimed, turn.inputs)
        except Never as error:
            raise DecisionError(FailureKind.TERMINAL, error.reason, str(error)) from error
        crashpoints.reach("dialog.after_model_reserve")
        return answer

    async def held(self, claimed: Claimed) -> str:
        """The reservation of a turn that is given up undecided, to be given back with it: what earlier attempts have
        held. Empty when there is none, as far as can be told now; then it expires."""
        if not isinstance(claimed.open_turn, Frozen):
            return ""
        try:
            answer = await self._hold(claimed, claimed.open_turn.inputs)
        except (NotNow, Never) as error:
            log.warning("a reservation is left to expire", turn_id=str(claimed.open_turn.turn_id), error=str(error))
            return ""
        return answer.reservation_id if isinstance(answer, Reserved) else ""

    async def _hold(self, claimed: Claimed, inputs: TurnInput) -> Reserved | Refused:
        head, contact_id = claimed.head, inputs.known.contact_id
        request_id = f"{head.message_id}/{head.seq}/{contact_id}"  # a hold is one contact's
        return await self._quota.reserve(head.request, contact_id, request_id, claimed.time_zone)
