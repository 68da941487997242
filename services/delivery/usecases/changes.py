"""What statuses and retries need of stores: changes of deliveries that are locked, in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.delivery.domain.channels import Channel
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.outbox import Delivery, ReplyState, part_of
from services.delivery.domain.statuses import Report
from services.delivery.usecases.ports import Said
from services.delivery.usecases.spans import Headers

R = TypeVar("R", bound=Message)
T = TypeVar("T")

MessageKey = tuple[int, str]
"""A channel's key, and its provider's id of a message."""


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part, its delivery locked. `is_known`: it was found by its provider's id."""

    delivery: Delivery
    index: int
    is_known: bool

    def attempt(self, report: Report) -> int:
        """The attempt that our own id names, counted from 1; 0 for none."""
        named = part_of(report.external_id)
        return named[2] if named is not None and named[:2] == (self.delivery.delivery_id, self.index) else 0


class Unplaced(NamedTuple):
    """The key of statuses that nobody could place, our id of the attempt as they gave it, and whether their part is
    known by now.
    """

    key: MessageKey
    external_id: str
    known: bool


class DeliveryChanges(Protocol):
    """Changes of a delivery that is locked, within one transaction."""

    async def store_parts(self, delivery: Delivery, before: Parts) -> None:
        """Stores its parts, and its dead letter as it is with them."""


class StatusChanges(DeliveryChanges, Protocol):
    """What one status or several change, within one transaction."""

    async def target(self, channel_key: int, report: Report) -> FoundPart | None:
        """The part that a report is about; None when nobody knows it."""

    async def keep(self, channel: Channel, report: Report, dedupe_key: str, *, placed: bool) -> bool:
        """Keeps a status. False when the key was kept before. One that is not placed is looked for again."""

    async def unmatched(self, key: MessageKey, tenant_id: str) -> Sequence[tuple[str, Report]]:
        """What was said of a message before its part was known, by dedupe key and in its order."""

    async def matched(self, channel_key: int, dedupe_keys: Sequence[str]) -> None:
        """These have had their effect."""

    async def name(self, key: MessageKey, target: FoundPart) -> bool:
        """The part has the provider's id. False when that was known."""

    async def lane_due_now(self, lane_id: UUID) -> None:
        """A lane has something new to do, if nobody works on it already."""

    async def mark(self, delivery: Delivery, at: int, *, read: bool) -> None:
        """It reached the device, or was read, at a time in Unix milliseconds; the first word counts."""

    async def tell(self, delivery: Delivery, state: ReplyState, at: int, error: str) -> Said:
        """Dialog must hear of it."""


class StatusStore(Protocol):
    """What providers say of sent messages."""

    away: tuple[type[Exception], ...]
    """The exceptions that say that the store cannot be reached."""

    async def transact(self, work: Callable[[StatusChanges], Awaitable[T]]) -> T:
        """Lets `work` change statuses and deliveries in one transaction; it may be called again."""

    async def early(self, keys: Sequence[MessageKey]) -> Sequence[MessageKey]:
        """Those of the messages about which statuses have come too early."""

    async def unplaced(self, limit: int) -> Sequence[Unplaced]:
        """Statuses that nobody could place and that are to be looked at again now."""


class Revivals(DeliveryChanges, Protocol):
    """Changes that queue a delivery again, within one transaction."""

    async def locked(self, tenant_id: str, delivery_id: UUID) -> Delivery | None: ...

    async def keeps_place(self, lane_id: UUID, seq: int) -> bool:
        """Whether a delivery can wait where it was: nobody has passed its place, and nobody works on the lane."""

    async def new_place(self, lane_id: UUID, delivery: Delivery) -> int:
        """The sequence of a new place at the end of a lane."""

    async def requeue(self, delivery: Delivery, lane_id: UUID, seq: int, headers: Headers) -> Delivery:
        """Lets it wait in its place, with the trace of who wanted it. Returns it as it is stored."""


class RetryStore(Protocol):
    """Dead letters."""

    async def once(
        self, request: Message, response: type[R], method: str, work: Callable[[Revivals], Awaitable[R]]
    ) -> R:
        """Lets `work` revive a delivery in one transaction, once per request id."""
