"""The stages of a turn, from the claim of its lane to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from parley.common.v1.content_pb2 import OutboundContent
from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from services.dialog.domain.bots import Bot
from services.dialog.domain.flows import TurnInput, TurnPlan
from services.dialog.domain.retry import TryAgain
from services.runtime.content import MOST_TEXT
from services.runtime.lanes import Lease, Timer


class Outcome(IntEnum):
    """What a turn came to. Numbers as in `parley.dialog.v1.TurnOutcome`."""

    ANSWERED = 1
    LIMITED = 2
    FAILED = 3


class MessageState(IntEnum):
    """Where a message stands. Numbers as in `parley.dialog.v1.MessageState`."""

    RECEIVED = 1
    PROCESSING = 2
    COMPLETED = 3
    FAILED = 4
    TERMINAL = 5


class ReplyState(IntEnum):
    """Where a reply stands. Numbers as in `parley.dialog.v1.ReplyState`."""

    QUEUED = 1
    SENT = 2
    DELIVERED = 3
    READ = 4
    DEAD = 5
    RETURNED = 6


@dataclass(frozen=True, slots=True)
class Waiting:
    """A stored message that waits for its turn. `chat` names the process that waits for the reply, "" for none.

    `age` is in seconds, by the database's clock.
    """

    message_id: UUID
    seq: int
    request: SubmitMessageRequest
    received_at: datetime
    age: float
    chat: str
    traceparent: str
    tracestate: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A limit said no. `remaining` is what is left under that rule; `retry_at` is when to come back."""

    rule_id: str
    remaining: int
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Reserved:
    """A limit said yes. `remaining` is what is left of the day when this turn is charged; None when no rule counts
    days."""

    reservation_id: str
    remaining: int | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """A turn that has taken its first step. It goes on with the inputs that it had then."""

    turn_id: UUID
    first_seq: int
    last_seq: int
    inputs: TurnInput


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn failed for good. `reason` names an ErrorReason; `fatal` marks the bot broken."""

    reason: str
    message: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan with all that carrying it out needs. Once committed it never changes."""

    turn_id: UUID
    first_seq: int
    last_seq: int
    outcome: Outcome
    decided: TurnPlan
    contact_id: str
    dialog_ttl: float
    """Seconds."""
    bot_revision: int
    reservation_id: str = ""
    remaining: int | None = None
    """What is left of the daily quota after this turn; None when nothing was counted."""
    refused: Refused | None = None
    failure: Failure | None = None


LONGEST_ERROR = 1_000


def presentable(plan: TurnPlan) -> TurnPlan:
    """A plan that other services will take: without empty replies, NULs and what is beyond the longest reply."""
    replies = [reply for reply in map(_presentable, plan.replies) if reply.text or reply.attachments]
    remember = [replace(entry, text=_without_nul(entry.text)) for entry in plan.remember]
    return replace(plan, replies=replies, remember=remember)


def _presentable(reply: OutboundContent) -> OutboundContent:
    """A reply with a text that can be sent. Buttons and lists are a flow's own fixed words."""
    text = _without_nul(reply.text)
    if text == reply.text:
        return reply
    mended = OutboundContent()
    mended.CopyFrom(reply)
    mended.text = text
    return mended


def error_text(reason: str, message: object) -> str:
    """An error as messages keep it."""
    return _without_nul(f"{reason}: {message}")[:LONGEST_ERROR]


def _without_nul(text: str) -> str:
    return text.replace("\0", "")[:MOST_TEXT]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased lane with what its worker needs to know. `bot` is None when there is no such bot, or none any more."""

    lease: Lease
    head: Waiting
    bot: Bot | None
    default_region: str
    time_zone: str
    """The tenant's, as an IANA name."""
    open_turn: Frozen | Plan | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A leased lane whose first message, open turn or bot cannot be read. `newer`: a newer version may read it."""

    lease: Lease
    message_id: UUID
    why: str
    newer: bool
    chat: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn to be decided: the messages that it answers, and all that its decision depends on."""

    lease: Lease
    turn_id: UUID
    messages: Sequence[Waiting]
    inputs: TurnInput
    started_at: datetime

    @property
    def first(self) -> Waiting:
        return self.messages[0]

    @property
    def last(self) -> Waiting:
        return self.messages[-1]


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan under its lane's lease, and the messages that it answers. `started_at` is when the deciding began; None
    for a plan that is committed."""

    lease: Lease
    plan: Plan
    messages: Sequence[Waiting]
    started_at: datetime | None

    @property
    def committed(self) -> bool:
        return self.started_at is None

    @property
    def last(self) -> Waiting:
        return self.messages[-1]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody can answer; an operator may retry it. `reason` names an ErrorReason.

    `attempts` are decisions that were begun; None leaves what the message says.
    """

    message_id: UUID
    reason: str
    error: str
    chat: str = ""
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class SentReply:
    """What became of a reply when the plan was carried out."""

    state: ReplyState
    delivery_id: UUID | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The end of a turn: all effects are carried out. `attempts` as a `DeadLetter` has them."""

    lease: Lease
    turn_id: UUID | None
    message_ids: Sequence[UUID]
    state: MessageState
    attempts: int | None
    last_error: str = ""
    terminal_reason: str = ""
    replies: Sequence[SentReply] = ()
    data_version: int | None = None
    timers: Sequence[Timer] | None = None
    """The lane's timers from now on; None leaves them."""


@dataclass(frozen=True, slots=True)
class PutOff:
    """The end of a lease with nothing done. `message_id` is the lane's first; None when that is a timer."""

    lease: Lease
    message_id: UUID | None
    again: TryAgain

    @property
    def message_ids(self) -> Sequence[UUID]:
        return () if self.message_id is None else (self.message_id,)


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A journaled call may be made now."""

    number: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a step has come to. `same_request`: whether it was asked with this request then."""

    result: Mapping[str, Any]
    same_request: bool = True


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a journaled call ended: with a result, or with an error."""

    result: Mapping[str, Any] | None
    error: str = ""
