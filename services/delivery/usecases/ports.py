"""What the use cases need of stores and of other services."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec
from google.protobuf.message import Message

from services.delivery.domain.channels import Channel, ChannelValues, ProviderKind
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.failures import Failure
from services.delivery.domain.outbox import Delivery, NewDelivery, Outcome, Priority, Queued, Stored
from services.delivery.domain.parts import PartState
from services.delivery.providers.base import Outbound, Provider, Sent
from services.kernel.errors import ParleyError
from services.runtime.lanes import Lease, Settle

R = TypeVar("R", bound=Message)


class Claimed(msgspec.Struct, frozen=True):
    """A lease with the first deliveries that wait in its lane. `more`: there may be others after them.

    `begun`: the first part of the first one was noted as started when the lane was leased; its call is to be made now.
    """

    lease: Lease
    deliveries: Sequence[Queued]
    more: bool
    begun: bool = False


class Started(msgspec.Struct, frozen=True):
    """A call that is about to be made: to be stored before it, under the lease's fence."""

    delivery: Queued
    revision: int
    parts: Parts
    lane_id: UUID
    fence: int


class Change(msgspec.Struct, frozen=True):
    """New parts of a delivery. `named` is the index of a part and what the provider has just called it, if it has.

    `rises`: the delivery was dead, and is not any more.
    """

    delivery: Queued
    revision: int
    parts: Parts
    named: tuple[int, str] = (0, "")
    rises: bool = False
    outcome: Outcome | None = None


class Record(msgspec.Struct, frozen=True):
    """What a worker found out: a change of a delivery, the end of a lease, or both, stored together.

    `beside`: the delivery leaves its conversation's lane, and is due in a lane of its own after so long.
    """

    change: Change | None = None
    settle: Settle | None = None
    beside: timedelta | None = None


class SendStore(Protocol):
    """Where messages to send are stored."""

    async def store(self, items: Sequence[NewDelivery]) -> Sequence[Stored | ParleyError]:
        """Stores all that can be stored in one commit; a result per item."""


class WorkStore(Protocol):
    """Where a worker keeps what it does. Both gather concurrent calls into few commits."""

    async def start(self, item: Started) -> bool:
        """False when the lease is lost or the delivery was changed meanwhile: then nothing was stored."""

    async def record(self, item: Record) -> int | None:
        """How many still wait in the lane that was settled; 0 when none was.

        None when the delivery was changed meanwhile: then its change was not stored.
        """

    async def read(self, tenant_id: str, delivery_id: UUID) -> Queued | None:
        """The delivery as it is now."""


class Grant(msgspec.Struct, frozen=True):
    """A rate's answer: granted for in `wait` seconds, or to be asked again in `wait` seconds."""

    granted: bool
    wait: float


class Rates(Protocol):
    """How fast a channel may send."""

    async def ask(self, channel: Channel, resource: str, priority: Priority) -> Grant:
        """One call's worth. Never raises, and never takes longer than two seconds."""

    def take(self, channel: Channel, resource: str) -> float | None:
        """A slot in hand, for which nobody need be asked, and until when it is good; None when there is none."""

    def put_back(self, channel_key: int, until: float) -> None:
        """A slot that was taken is not needed."""

    def drop(self, channel_key: int) -> None:
        """What is in hand is not to be used any more."""


class Calls(Protocol):
    """Providers' calls."""

    @property
    def timeout(self) -> float:
        """Seconds within which a call ends in any case."""

    async def make(self, provider: Provider, outbound: Outbound, channel: Channel) -> Sent | Failure:
        """One call. Failures are returned, classified; nothing is tried again here."""


class Shut(msgspec.Struct, frozen=True):
    """Why a channel should not be called. Seconds from now, negative when they are over; None for not at all.

    `open_for`: until its breaker lets a probe through, after so many `openings` in a row. `paused_for`: until the pause
    is over that the provider has asked for, the latest of so many `pauses` in a row.
    """

    open_for: float | None
    openings: int
    paused_for: float | None
    pauses: int


class GateStore(Protocol):
    """What all processes know of channels that should not be called for now."""

    async def read(self) -> Mapping[int, Shut]:
        """By the channel's key; a channel that is well is not there."""

    async def write(self, channel_key: int, shut: Shut | None) -> None:
        """None: it is well again."""

    async def probe(self, channel_key: int, seconds: float) -> bool:
        """Whether the caller is the one who makes the probe, for which he has so many seconds."""


class Channels(Protocol):
    """The channels, mirrored in memory."""

    def by_id(self, channel_id: str) -> Channel | None: ...

    def by_key(self, key: int) -> Channel | None: ...

    async def refresh(self) -> None:
        """Catches up with the store, for somebody who misses a channel."""


class Said(msgspec.Struct, frozen=True):
    """An outcome in its queue."""

    outcome_id: int
    outcome: Outcome


class OutcomeStore(Protocol):
    """The outcomes that dialog has not acknowledged."""

    async def older(self, age: timedelta, limit: int) -> Sequence[Said]:
        """Those that have waited for longer and are due, the oldest first."""

    async def refuse(self, outcome_ids: Collection[int], tries: int) -> Collection[int]:
        """Dialog could not take them: they are due after a growing pause. Returns those with that many `tries`."""

    async def forget(self, outcome_ids: Collection[int]) -> None:
        """Dialog knows them."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries of a tenant are wanted; empty and None stand for all."""

    tenant_id: str
    message_id: UUID | None = None
    channel_id: str = ""
    part_state: PartState | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Numbers of parts; `oldest_waiting` in seconds, None when nothing waits."""

    waiting: int
    leased_lanes: int
    retrying: int
    unknown: int
    dead: int
    oldest_waiting: float | None
    capped: bool


class ReadStore(Protocol):
    """Deliveries as people look at them."""

    async def get(self, tenant_id: str, delivery_id: UUID) -> Delivery | None: ...

    async def page(self, wanted: Filter, *, before: UUID | None, limit: int) -> tuple[Sequence[Delivery], UUID | None]:
        """A page, and where the next one begins; None on the last."""

    async def stats(self, tenant_id: str) -> Stats: ...


class Edits(Protocol):
    """Changes of channels within one transaction."""

    async def create(
        self, tenant_id: str, channel_id: str, provider: ProviderKind, values: ChannelValues
    ) -> Channel: ...

    async def get(self, tenant_id: str, channel_id: str) -> Channel: ...

    async def update(self, tenant_id: str, channel_id: str, values: ChannelValues) -> Channel: ...

    async def delete(self, tenant_id: str, channel_id: str) -> None: ...


class ChannelStore(Protocol):
    """Channels as they are stored."""

    async def get(self, channel_id: str, tenant_id: str) -> Channel | None: ...

    async def page(self, tenant_id: str, bot_id: str, *, after: str, limit: int) -> Sequence[Channel]: ...

    async def once(self, request: Message, response: type[R], method: str, work: Callable[[Edits], Awaitable[R]]) -> R:
        """Lets `work` change channels in one transaction, once per request id."""
