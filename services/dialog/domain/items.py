"""What a conversation's lane carries besides the messages of its person, and how it is treated. Pure data and rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

import msgspec

from services.dialog.domain.flows import TurnPlan
from services.dialog.domain.turns import Claimed, Planned, Unreadable
from services.runtime.lanes import Lease, Timer


class ItemKind(IntEnum):
    """What a stored item is; its payload is typed by it. A timer is stored in the lane and has no row of its own."""

    MESSAGE = 1
    """A person's message: a `SubmitMessageRequest`."""
    OPERATOR_REPLY = 2
    PROACTIVE_MESSAGE = 3
    EVENT = 4


class Mode(IntEnum):
    """Who answers in a conversation. The lane keeps it, and a claim reads it."""

    BOT = 0
    OPERATOR = 1
    """An operator: messages are stored and completed, and no turn is made of them."""


TAKEN_BY_OPERATOR = "TAKEN_BY_OPERATOR"
"""The reason that a message which was completed without a turn is stored with."""

DROP_OFF = "drop_off"
"""The kind of the timer that ends a form which was left in silence."""
MARGIN = timedelta(minutes=1)
"""Between the moment when context forgets a dialog and its drop-off, so that the next message begins a new one."""


@dataclass(frozen=True, slots=True)
class DropOff:
    """What analytics learns of a form when nobody goes on with it. `active_at` is when its last turn was decided."""

    turn_id: UUID
    bot_id: str
    channel_id: str
    step: str
    message_count: int
    started_at: datetime
    active_at: datetime


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A leased lane whose first item is its first timer."""

    lease: Lease

    @property
    def timer(self) -> Timer:
        return self.lease.timers[0]

    @property
    def later(self) -> Sequence[Timer]:
        """The lane's other timers."""
        return self.lease.timers[1:]


Item = Claimed | TimerDue | Unreadable
"""What a claim finds at the head of a lane."""


def drop_off_of(timers: Sequence[Timer]) -> DropOff | None:
    """The form that waits for its person in a lane with these timers."""
    return next((read_drop_off(timer) for timer in timers if timer.kind == DROP_OFF), None)


def read_drop_off(timer: Timer) -> DropOff:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(timer.data, DropOff)


def left_open(timers: Sequence[Timer], decided: TurnPlan) -> DropOff | None:
    """The form that nobody has ended and in whose place another dialog begins."""
    form = drop_off_of(timers)
    if form is None or decided.dialog is None or decided.ended is not None:
        return None
    return None if decided.open is not None and decided.open.started_at == form.started_at else form


def timers_after(planned: Planned, now: datetime) -> Sequence[Timer] | None:
    """A lane's timers once a plan is carried out; None when they stay as they are."""
    plan, timers = planned.plan, planned.lease.timers
    if plan.decided.dialog is None:
        return None
    others = [timer for timer in timers if timer.kind != DROP_OFF]
    form = plan.decided.open
    if form is not None:
        request = planned.last.request
        data = DropOff(
            plan.turn_id, request.bot_id, request.channel_id, form.step, form.message_count, form.started_at, form.at
        )
        at = now + timedelta(seconds=plan.dialog_ttl) + MARGIN
        others.append(Timer(DROP_OFF, at, msgspec.to_builtins(data)))
    return others if others or timers else None
