"""What goes into the outbox, and what a worker gets out of it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID

import msgspec

from parley.common.v1.content_pb2 import OutboundContent

from services.delivery.domain.deliveries import Parts
from services.delivery.domain.waiting import Place


class ReplyState(IntEnum):
    """What dialog is told of a delivery. The numbers are those of `parley.dialog.v1.ReplyState`."""

    SENT = 2
    DELIVERED = 3
    READ = 4
    DEAD = 5


class Priority(IntEnum):
    """Who waits for a delivery. The numbers are those of `parley.delivery.v1.Priority`."""

    REPLY = 1
    """A person does."""
    BROADCAST = 2
    """Nobody does."""


class NewDelivery(msgspec.Struct, frozen=True):
    """One message to store. `rendered` is what each of its parts says, as its provider shows it.

    `traceparent` and `tracestate` are those of the span that stores it.
    """

    delivery_id: UUID
    tenant_id: str
    request_id: str
    channel_key: int
    channel_id: str
    conversation_id: UUID
    chat_id: str
    message_id: UUID | None
    reply_index: int
    content: OutboundContent
    rendered: tuple[OutboundContent, ...]
    traceparent: str
    tracestate: str
    lane_id: UUID
    priority: Priority = Priority.REPLY


class Stored(msgspec.Struct, frozen=True):
    """Where a message was stored: now, or by an earlier call with the same request id."""

    delivery_id: UUID
    duplicate: bool


class Queued(msgspec.Struct, frozen=True):
    """A delivery as its worker reads it. `revision` is that of `parts`.

    `fault` says why it cannot be read, "" when it can; then it can only be given up. `kept`: not even its parts can be
    read, so that they stay as they are stored.
    """

    delivery_id: UUID
    tenant_id: str
    seq: int
    channel_key: int
    chat_id: str
    message_id: UUID | None
    reply_index: int
    rendered: tuple[OutboundContent, ...]
    traceparent: str
    tracestate: str
    revision: int
    parts: Parts
    priority: Priority = Priority.REPLY
    fault: str = ""
    kept: bool = False

    def part_id(self, index: int, attempt: int) -> str:
        """What we call an attempt, counted from 1, at a part."""
        return f"{self.delivery_id}.{index}.{attempt}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """All that is known of a delivery."""

    delivery_id: UUID
    tenant_id: str
    channel_key: int
    channel_id: str
    conversation_id: UUID
    chat_id: str
    request_id: str
    message_id: UUID | None
    reply_index: int
    content: OutboundContent
    rendered: tuple[OutboundContent, ...]
    parts: Parts
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    traceparent: str
    tracestate: str
    lane_id: UUID
    seq: int
    revision: int
    priority: Priority = Priority.REPLY
    place: Place | None = None
    """Where it stands in its lane; None when that was not asked for."""


class Outcome(msgspec.Struct, frozen=True):
    """Something that dialog must hear of a delivery."""

    tenant_id: str
    delivery_id: UUID
    message_id: UUID | None
    reply_index: int
    state: ReplyState
    at: datetime
    error: str = ""
    traceparent: str = ""
    tracestate: str = ""


def lane_of(channel_key: int, conversation_id: UUID) -> UUID:
    """The lane of a conversation on a channel.

    It holds the channel's key, so nobody can name a lane of another company's channel by a conversation's id.
    """
    name = channel_key.to_bytes(4, "big") + conversation_id.bytes
    return UUID(bytes=hashlib.blake2b(name, digest_size=16).digest())


def part_of(external_id: str) -> tuple[UUID, int, int] | None:
    """The delivery, index and attempt that `Queued.part_id` named; None for what is no such id.

    The version before named no attempt; it is 0 then.
    """
    head, *numbers = external_id.split(".")
    if len(numbers) not in (1, 2):
        return None
    try:
        index, attempt = [int(number) for number in (*numbers, "0")[:2]]
        return UUID(head), index, attempt
    except ValueError:
        return None
