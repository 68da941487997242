"""What use cases need from outside. Adapters and tests' fakes have these shapes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from parley.common.v1.content_pb2 import OutboundContent
from parley.common.v1.identity_pb2 import Sender
from parley.dialog.v1.dialog_pb2 import Message, SubmitMessageRequest

from services.dialog.domain.flows import Act, Known, Previews
from services.dialog.domain.items import (
    DropOff,
    Item,
    ItemKind,
    TimerDue,
)
from services.dialog.domain.turns import (
    Claimed,
    Plan,
    Planned,
    PutOff,
    Refused,
    Reserved,
    StepBegun,
    StepDone,
    StepEnd,
    Turn,
    TurnEnd,
    Waiting,
)
from services.runtime.lanes import Found, Held, Lease, Room


class NotNow(Exception):
    """A service or store that a turn needs is away; later it may work. Nothing was decided."""


class Faulty(NotNow):
    """A service answers with a fault of its own, INTERNAL for one. It may pass, so it is tried again; but what never
    passes is given up after a while."""


class Never(Exception):
    """An effect can never be carried out. `reason` names an ErrorReason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class NewMessage:
    """A message to store. `dedupe_id` stands for its tenant, channel and dedupe key."""

    message_id: UUID
    conversation_id: UUID
    dedupe_id: UUID
    request: SubmitMessageRequest
    stored: bytes
    """The request as it is kept: without the dedupe key."""
    traceparent: str = ""
    tracestate: str = ""
    chat: str = ""
    kind: ItemKind = ItemKind.MESSAGE

    @property
    def share(self) -> str:
        return share_of(self.request.bot_id, self.request.channel_id)


def share_of(bot_id: str, channel_id: str) -> str:
    """Whose part of a tenant's places a turn takes: that of its channel and of the bot that answers there."""
    return f"{bot_id}/{channel_id}"


@dataclass(frozen=True, slots=True)
class Added:
    """A message as stored; of a duplicate, the first one. `taken`: this process works on it already. `due_in` is for
    how many seconds its bot waits for more to be said."""

    message_id: UUID
    conversation_id: UUID
    duplicate: bool
    taken: bool = False
    due_in: float = 0.0


class Inbox(Protocol):
    async def add(self, messages: Sequence[NewMessage]) -> Sequence[Added | Exception]:
        """Store messages durably, each once per dedupe id, and queue them on their lanes. One commit, or few."""


class Turns(Protocol):
    """The worker's store."""

    async def claim(self, room: Room) -> Found[Item]: ...

    async def renew(self, leases: Sequence[Held], ttl: timedelta) -> Collection[UUID]: ...

    async def release(self, leases: Sequence[Lease], due_in: timedelta) -> object:
        """Let lanes go with nothing done and no attempt counted."""

    async def waiting(self, claimed: Claimed) -> Sequence[Waiting]:
        """All messages that waited in the lane when it was claimed, up to a bound."""

    async def commit_plan(self, planned: Planned) -> None:
        """Commit a plan with its rows. Raises LeaseLost."""

    async def finish(self, end: TurnEnd) -> int:
        """End a turn and the lease; how many messages wait in the lane. Raises LeaseLost."""

    async def put_off(self, item: PutOff) -> None:
        """End the lease with nothing done. Raises LeaseLost."""

    async def end_timer(self, due: TimerDue, form: DropOff | None) -> int:
        """End the lease of a lane whose timer has done what it is for, with the end of a form if there is one; how many
        items wait in the lane. Raises LeaseLost."""

    async def mark_broken(self, tenant_id: str, bot_id: str, revision: int, reason: str) -> None:
        """Say why a bot is broken, "" for mended, unless it was changed since that revision."""


class Steps(Protocol):
    """The store of the steps that turns take before their plans. The first one freezes its turn's inputs."""

    async def begin(self, turn: Turn, step: str, request_sha256: bytes) -> StepBegun | StepDone:
        """Note that a call is about to be made, unless it is done. Raises LeaseLost."""

    async def end(self, turn: Turn, step: str, number: int, end: StepEnd) -> None:
        """Note how a call ended."""

    async def act(self, turn: Turn, step: str, request_sha256: bytes, act: Act) -> StepDone:
        """Write the rows of an act with its result in one commit, unless it is done. Raises LeaseLost."""


class Contexts(Protocol):
    """The context service. Raises NotNow and Never."""

    async def get(self, tenant_id: str, conversation_id: UUID, sender: Sender, min_version: int) -> Known: ...

    async def save(self, tenant_id: str, conversation_id: UUID, plan: Plan) -> int:
        """The conversation's new version."""


class Quota(Protocol):
    """The limits service. Raises NotNow and Never."""

    async def reserve(
        self, request: SubmitMessageRequest, contact_id: str, request_id: str, time_zone: str
    ) -> Reserved | Refused:
        """The same request id finds the hold that it has, and makes a new one of what was released. Days begin in
        `time_zone` where a rule names none."""

    async def commit(self, tenant_id: str, reservation_id: str) -> None: ...

    async def release(self, tenant_id: str, reservation_id: str) -> None: ...


class Deliveries(Protocol):
    """The delivery service. Raises NotNow and Never."""

    async def send(
        self,
        request: SubmitMessageRequest,
        conversation_id: UUID,
        message_id: UUID,
        turn_id: UUID,
        index: int,
        reply: OutboundContent,
    ) -> UUID:
        """Hand over one reply; the delivery's id."""

    async def say(self, request: SubmitMessageRequest, conversation_id: UUID, key: str, text: str) -> UUID:
        """Hand over a text that answers no message, once per key; the delivery's id."""


class Chats(Protocol):
    """Callers that wait for a reply, in this process or another one."""

    def previews(self, process: str, message_id: UUID) -> Previews: ...

    def done(self, process: str, message_id: UUID) -> None:
        """The reply can be read from the store."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as stored, and the plan that answers it; None before it was planned."""

    message: Message
    plan: Plan | None
    traceparent: str
    tracestate: str


class Wanted(NamedTuple):
    """Which messages of a tenant; None and no states for all."""

    tenant_id: str
    conversation_id: UUID | None
    channel_id: str | None
    states: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReplyReport:
    """What delivery says of a reply. `state` is a `parley.dialog.v1.ReplyState`."""

    tenant_id: str
    message_id: UUID
    delivery_id: UUID
    index: int
    state: int
    at: datetime
    error: str


class OneMessage(Protocol):
    """Reads one message."""

    async def message(self, tenant_id: str, message_id: UUID) -> Stored | None: ...
