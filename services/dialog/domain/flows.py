"""What a flow gets, what it may use, and what it decides."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from parley.common.v1.content_pb2 import OutboundContent

from services.dialog.domain.bots import Bot
from services.dialog.domain.failures import DecisionError, FailureKind


@dataclass(frozen=True)
class Inbound:
    """What a person sent, as a flow sees it."""

    message_id: str
    text: str
    received_at: datetime
    button_data: str = ""
    shared_phone: str = ""
    attachments: int = 0
    """How many files came along."""


@dataclass(frozen=True)
class HistoryEntry:
    """One remembered message; `role` is `user` or `assistant`."""

    role: str
    text: str
    at: datetime


@dataclass(frozen=True)
class Dialog:
    """Where a dialog stands; the dialog namespace of the context. Slots are plain JSON values."""

    flow: str = ""
    flow_version: str = ""
    step: str = ""
    slots: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    message_count: int = 0
    thread_id: str = ""


@dataclass(frozen=True)
class Known:
    """What the context service knows when the turn begins."""

    contact_id: str = ""
    name: str = ""
    phone: str = ""
    dialog: Dialog = Dialog()
    history: Sequence[HistoryEntry] = ()
    version: int = 0
    preferences: Mapping[str, str] = field(default_factory=dict)
    """The contact's, by name, for example `favorite_staff`."""


@dataclass(frozen=True)
class TurnInput:
    """All that a decision may depend on. Frozen before the first journaled call."""

    turn_id: str
    bot: Bot
    messages: Sequence[Inbound]
    known: Known
    now: datetime
    default_region: str = ""
    """Region of phone numbers written without a country code, for example `KG`."""
    time_zone: str = "UTC"
    """The tenant's, as an IANA name, for example `Asia/Bishkek`."""


@dataclass(frozen=True)
class Usage:
    """Tokens and price of model calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    price_micros_usd: int = 0
    calls: int = 0


@dataclass(frozen=True)
class OrderDraft:
    """An order row to write with the plan."""

    form_id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A dialog that came to its end, for analytics. `dropoff_step` is empty when completed."""

    completed: bool
    dropoff_step: str
    message_count: int
    duration: timedelta


@dataclass(frozen=True)
class Open:
    """A form that waits for its person: what analytics learns when they never come back."""

    step: str
    message_count: int
    started_at: datetime
    at: datetime
    """When the turn was decided."""


@dataclass(frozen=True)
class TurnPlan:
    """What a turn decided. It is committed before any of it leaves the service."""

    replies: Sequence[OutboundContent]
    dialog: Dialog | None = None
    """The dialog namespace after the turn; None leaves it as it is."""
    remember: Sequence[HistoryEntry] = ()
    """Entries to add to the messages namespace."""
    clear_history: bool = False
    """Empty the messages namespace first (`/refresh`)."""
    orders: Sequence[OrderDraft] = ()
    ended: Ended | None = None
    open: Open | None = None
    """Set by forms, with the dialog that it tells of."""
    charge_quota: bool = False
    """Commit the turn's reservation; otherwise it is released."""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Act:
    """What a step writes, and what its flow gets to know of it (JSON values)."""

    result: Mapping[str, Any]
    orders: Sequence[OrderDraft] = ()


@dataclass(frozen=True)
class Budget:
    """What one turn may use, or what is left of that. Seconds count for one attempt, the others for all of them."""

    steps: int
    seconds: float
    tokens: int
    price_micros_usd: int


class BudgetExceeded(DecisionError):
    """A turn has used up what it may use. `resource` names the field of `Budget`.

    What takes too long is tried again like a model that does not answer; the rest would be used up again.
    """

    def __init__(self, resource: str, message: str) -> None:
        if resource == "seconds":
            super().__init__(FailureKind.RETRYABLE, "MODEL_TIMEOUT", message)
        else:
            super().__init__(FailureKind.TERMINAL, "BUDGET_EXCEEDED", message)
        self.resource = resource


class Journal(Protocol):
    """Remembers the steps of a turn: one that is done is never repeated, whatever crashes. Steps have names, unique in
    their turn. Each raises BudgetExceeded when the turn may take no further step."""

    async def call(
        self, step: str, request: Mapping[str, Any], run: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> Mapping[str, Any]:
        """Return the stored result of `step`, or run it and store what it returns (JSON values, both ways).

        For calls to others: one that was under way in a crash is made again.
        """

    async def act(self, step: str, act: Act) -> Mapping[str, Any]:
        """Return the stored result of `step`, or write its rows together with its result, both or neither."""


class Previews(Protocol):
    """Where text goes while it is made. Nothing may depend on its arriving."""

    async def delta(self, text: str) -> None:
        """More text."""

    async def reset(self) -> None:
        """Forget the text so far."""


@dataclass(frozen=True)
class TurnTools:
    """What a flow may use besides its input.

    `left` tells what the turn may still use. `is_last` tells whether a failure of this attempt ends the turn: then a
    flow whose steps have acted says so, from their results, rather than raise it.
    """

    journal: Journal
    previews: Previews
    left: Callable[[], Budget]
    is_last: Callable[[DecisionError], bool]


class Flow(Protocol):
    """Decides. The same input and journal give the same plan."""

    async def prepare(self, turn: TurnInput, tools: TurnTools) -> TurnPlan | None:
        """Return the plan of a turn that costs nobody a model turn: a command, a form, an answer that is known already.
        None when `decide` has to be asked, for which the daily quota is reserved first. Raises DecisionError."""

    async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        """Return what to do. Raises DecisionError."""
