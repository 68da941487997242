"""Where a dialog stands in its form, and how that is kept in the dialog namespace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.dialog.domain.flows import Dialog, Ended, Open
from services.dialog.flows.form_slots import Field

INITIAL = "initial"
COMPLETED = "completed"
_RETURN_TO = "_return_to"
_CHOOSING = "_choosing"
"""Kept among the slots; names of slots begin with a letter."""


@dataclass(frozen=True)
class State:
    """Where a dialog stands."""

    step: str
    started_at: datetime
    slots: Mapping[str, Any] = field(default_factory=dict)
    message_count: int = 0
    return_to: str = ""
    """The step to go back to after a correction."""
    choosing: bool = False
    """The person said that something is wrong, and was asked what."""
    stale: bool = False
    """It was left by another version of the form."""

    @property
    def is_open(self) -> bool:
        """Whether something is being asked."""
        return self.step not in (INITIAL, COMPLETED)

    def open(self, now: datetime) -> Open | None:
        """What it waits for; None when nothing is asked."""
        return Open(self.step, self.message_count, self.started_at, now) if self.is_open else None

    def ended(self, now: datetime, *, completed: bool = False) -> Ended:
        """What analytics learns when the dialog ends here."""
        duration = max(now - self.started_at, timedelta(0))
        return Ended(completed, "" if completed else self.step, self.message_count, duration)


def next_step(fields: Sequence[Field], slots: Mapping[str, Any], confirmation: str) -> str:
    """The step of the first slot that is missing, or the confirmation."""
    return next((field.step for field in fields if field.name not in slots), confirmation)


def restore(
    dialog: Dialog, flow: str, version: str, fields: Sequence[Field], confirmation: str, now: datetime
) -> State:
    """The state that a dialog holds; a new one when it is another flow's or none."""
    if dialog.flow != flow or dialog.step in ("", INITIAL):
        return State(INITIAL, now)
    by_name = {field.name: field for field in fields}
    slots = {name: by_name[name].restore(value) for name, value in dialog.slots.items() if name in by_name}
    steps = {COMPLETED, confirmation, *(field.step for field in fields)}
    step = dialog.step if dialog.step in steps else next_step(fields, slots, confirmation)
    return_to = dialog.slots.get(_RETURN_TO)
    return State(
        step=step,
        started_at=dialog.started_at or now,
        slots=slots,
        message_count=dialog.message_count,
        return_to=return_to if isinstance(return_to, str) and return_to in steps - {COMPLETED} else "",
        choosing=dialog.slots.get(_CHOOSING) is True and step == confirmation,
        stale=dialog.flow_version != version,
    )


def to_dialog(state: State, flow: str, version: str, thread_id: str) -> Dialog:
    """What `restore` reads."""
    marks: dict[str, Any] = {_RETURN_TO: state.return_to} if state.return_to else {}
    if state.choosing:
        marks[_CHOOSING] = True
    return Dialog(
        flow=flow,
        flow_version=version,
        step=state.step,
        slots={**state.slots, **marks},
        started_at=state.started_at,
        message_count=state.message_count,
        thread_id=thread_id,
    )


def slots_of(dialog: Dialog) -> Mapping[str, Any]:
    """The slots of a form's dialog, without what the flow keeps beside them."""
    return {name: value for name, value in dialog.slots.items() if not name.startswith("_")}
