"""A worker's progress with one delivery, and what is to be stored of it. Nothing here waits for anything."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
from opentelemetry import trace

from services.delivery.domain import deliveries, parts
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.failures import Failure
from services.delivery.domain.outbox import Outcome, Priority, Queued, ReplyState
from services.delivery.domain.parts import OPEN, Part, PartState
from services.delivery.domain.retry import RetryPolicy
from services.delivery.providers.base import Sent
from services.delivery.usecases.ports import Change, Record
from services.runtime.lanes import Lease, Settle
from services.runtime.logs import get_logger

log = get_logger(__name__)


class Ended(msgspec.Struct, frozen=True):
    """How the work on a delivery ended. `wait`: the lane was settled, and its head is due in so many seconds; None: all
    is done.

    `left` is how many still wait in the lane when it was settled with all done: somebody has added them.
    """

    wait: float | None = None
    left: int = 0


DONE = Ended()


@dataclass(slots=True)
class Progress:
    """`parts` are as they are now; `revision` is that of the stored row.

    `through` is the lane's sequence up to which all is done when this delivery is; None when the worker goes on to the
    next one under the same lease.
    """

    delivery: Queued
    lease: Lease
    through: int | None
    revision: int
    parts: Parts
    priority: Priority = Priority.REPLY
    """The highest of the deliveries that wait in the lane: what holds a reply up is as urgent as the reply."""
    changed: bool = False
    named: tuple[int, str] = (0, "")
    known_as: PartState | None = None
    """How the delivery had ended already when it was read again: dialog knows that."""
    moved: bool = False
    """An operator has queued it again meanwhile, at the end of its lane: its old place is done."""

    @property
    def beside(self) -> bool:
        """Whether the delivery has a lane of its own already."""
        return self.lease.lane_id == self.delivery.delivery_id

    def set(self, index: int, part: Part) -> None:
        self.parts = deliveries.with_part(self.parts, index, part)
        self.changed = True

    def note(
        self, index: int, number: int, result: Sent | Failure, now: int, policy: RetryPolicy, chance: float
    ) -> None:
        """Writes down the result of an attempt, whatever became of its part meanwhile. `number` counts from 0."""
        part = self.parts[index]
        if isinstance(result, Sent):
            self.set(index, parts.sent(part, now, result.provider_message_id, number))
            self.named = (index, result.provider_message_id)
        else:
            self.set(index, parts.failed(part, result, now, policy, chance, number))

    def give_up(self) -> None:
        """Nothing that is left of the delivery can be sent."""
        for index, part in enumerate(self.parts):
            if part.state in OPEN:
                self.set(index, parts.killed(part))

    def change(self, outcome: Outcome | None = None) -> Change | None:
        """What is to be stored; None when nothing has changed."""
        if not self.changed:
            return None
        rises = self.known_as is PartState.DEAD and not deliveries.dead(self.parts)
        return Change(self.delivery, self.revision, self.parts, self.named, rises, outcome)

    def stored(self) -> None:
        self.revision += 1
        self.changed = False
        self.named = (0, "")

    def read_again(self, fresh: Queued) -> None:
        """Somebody else has changed the delivery: what is to be stored goes on top of that."""
        self.moved = fresh.seq != self.delivery.seq
        self.parts, self.revision = fresh.parts, fresh.revision
        self.known_as = deliveries.state(fresh.parts) if deliveries.head(fresh.parts) is None else None

    def settle(self, through: int, due_in: float = 0.0) -> Settle:
        done = through - self.lease.done_seq
        return Settle(self.lease.lane_id, self.lease.fence, done, timedelta(seconds=due_in))


def conclude(
    progress: Progress, index: int, now: int, policy: RetryPolicy, parked: float
) -> tuple[Record, Ended | None]:
    """What a call to the provider has led to, and how the work goes on; None: with the next part.

    `now` is in Unix milliseconds; `parked` is for how many seconds the channel's parts wait at least.
    """
    part, seq = progress.parts[index], progress.delivery.seq
    if deliveries.head(progress.parts) is None:
        return finish(progress, deliveries.last_error(progress.parts), now), DONE
    if progress.moved:
        return Record(progress.change(), None if progress.through is None else progress.settle(progress.through)), DONE
    if part.state is PartState.SENT:
        return Record(progress.change()), None
    wait = max((part.due - now) / 1000, parked)
    if parts.holds_lane(part, now, policy) or progress.beside:
        return Record(progress.change(), progress.settle(seq - 1, wait)), Ended(wait)
    delivery_id = str(progress.delivery.delivery_id)
    log.warning("a part no longer holds its conversation up", delivery_id=delivery_id, part=index, tries=part.tries)
    trace.get_current_span().add_event("retried beside the conversation", {"parley.tries": part.tries})
    settle = progress.settle(seq if progress.through is None else progress.through)
    return Record(progress.change(), settle, timedelta(seconds=wait)), Ended(0.0)


def finish(progress: Progress, error: str, now: int) -> Record:
    """Nothing is left to send: what is to be stored, and what dialog must hear if that is news.

    `error` says why a part is dead.
    """
    settle = None if progress.through is None else progress.settle(progress.through)
    if not progress.changed:
        return Record(settle=settle)
    delivery = progress.delivery
    ended = deliveries.state(progress.parts)
    if ended is progress.known_as:
        return Record(progress.change(), settle)
    dead = ended is PartState.DEAD
    at = now if dead else deliveries.last_sent(progress.parts)
    outcome = Outcome(
        tenant_id=delivery.tenant_id,
        delivery_id=delivery.delivery_id,
        message_id=delivery.message_id,
        reply_index=delivery.reply_index,
        state=ReplyState.DEAD if dead else ReplyState.SENT,
        at=datetime.fromtimestamp(at / 1000, UTC),
        error=(error or "given up") if dead else "",
        traceparent=delivery.traceparent,
        tracestate=delivery.tracestate,
    )
    if dead:
        log.error("a delivery is dead", delivery_id=str(delivery.delivery_id), error=outcome.error, alert=True)
    return Record(progress.change(outcome), settle)
