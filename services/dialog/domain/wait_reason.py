"""Why a message is not answered yet. Pure: from what is stored of it and of its lane."""

from dataclasses import dataclass
from datetime import datetime

from parley.common.v1 import waiting_pb2

from services.dialog.domain.turns import MessageState

_OPEN = frozenset({MessageState.RECEIVED, MessageState.PROCESSING, MessageState.FAILED})


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """A message's place in its lane. `seq` is None for one that was never queued; times are the database's.

    `planned`: its turn is decided, and is being carried out.
    """

    state: int
    seq: int | None
    done_seq: int
    due_at: datetime | None
    lease_until: datetime | None
    parked: str | None
    planned: bool
    last_error: str
    now: datetime


def why(place: QueuePlace) -> waiting_pb2.Waiting | None:
    """The one thing that it waits for, the first that applies; None for a message that waits for nothing."""
    if place.state not in _OPEN or place.seq is None or place.seq <= place.done_seq:
        return None
    if place.parked is not None:
        reason, until, detail = waiting_pb2.WAIT_REASON_BOT_DISABLED, None, ""
    elif place.seq > place.done_seq + 1:
        reason, until, detail = waiting_pb2.WAIT_REASON_BEHIND, None, ""
    elif place.lease_until is not None and place.lease_until > place.now:
        reason, until, detail = waiting_pb2.WAIT_REASON_IN_PROGRESS, None, ""
    elif place.due_at is None or place.due_at <= place.now:
        reason, until, detail = waiting_pb2.WAIT_REASON_QUEUED, None, ""
    elif place.planned:
        reason, until, detail = waiting_pb2.WAIT_REASON_EFFECTS, place.due_at, place.last_error
    elif place.state == MessageState.FAILED:
        reason, until, detail = waiting_pb2.WAIT_REASON_RETRY, place.due_at, place.last_error
    else:
        reason, until, detail = waiting_pb2.WAIT_REASON_PUT_OFF, place.due_at, place.last_error
    made = waiting_pb2.Waiting(reason=reason, detail=detail, ahead=place.seq - place.done_seq - 1)
    if until is not None:
        made.until.FromDatetime(until)
    return made
