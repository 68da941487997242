"""What goes into lanes and comes out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from services.runtime.lanes.shares import Share
from services.runtime.lanes.timers import Timer

T = TypeVar("T")

NOW = timedelta(0)
LOST_TOO_OFTEN = 2
"""Lost workers from which on a lane is taken alone, and each taking counts as an attempt."""


class Priority(IntEnum):
    """Which lanes a claim takes first. A lane has the highest priority of the items that wait in it."""

    HIGH = 0
    """Somebody waits for it."""
    LOW = 1
    """It can wait, as a broadcast or a timer can: it gets the places that are left."""


@dataclass(frozen=True, slots=True)
class Append:
    """`count` more items wait in a lane. An idle lane is due after `due_in`, and takes its place from `share`.

    A lane in which something waits keeps its time and its share. Items that can wait belong in a share of their own:
    whoever takes a share's places takes them from all its lanes.
    """

    lane_id: UUID
    tenant_id: str
    count: int = 1
    due_in: timedelta = NOW
    share: str = ""
    priority: Priority = Priority.HIGH


class Held(NamedTuple):
    """A lease by what proves it."""

    lane_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lane until `lease_until`, by the database's clock.

    `pending` items wait after `done_seq`. `attempts` counts this one: 1 is the first. `expired` says that
    the lane was taken over from a worker that neither finished nor renewed; `losses` how often that came to be in a
    row. `delays` is how often in a row the lane was put off. `mode` is what the service has stored in it, and `timers`
    are those of the lane, the first one first; a lane that was due for its timer has it as its first item.
    """

    lane_id: UUID
    tenant_id: str
    fence: int
    pending: int
    done_seq: int
    attempts: int
    data_version: int
    lease_until: datetime
    expired: bool
    share: str = ""
    losses: int = 0
    delays: int = 0
    priority: Priority = Priority.HIGH
    mode: int = 0
    timers: tuple[Timer, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether the lane is a suspect: lost so often that it is taken with no other suspect beside it."""
        return self.losses >= LOST_TOO_OFTEN

    @property
    def lease(self) -> "Lease":
        """Itself, so that a bare lease can stand where a lease with payload is expected."""
        return self

    @property
    def held(self) -> Held:
        return Held(self.lane_id, self.fence)


class Settle(NamedTuple):
    """How a lease ends: the first `done` items are done.

    When more wait, the lane is due at once, or after `due_in`. `attempts`, `data_version`, `delays` and `timers` are
    the new values; None leaves them.
    """

    lane_id: UUID
    fence: int
    done: int
    due_in: timedelta | None = None
    attempts: int | None = 0
    data_version: int | None = None
    delays: int | None = 0
    timers: Sequence[Timer] | None = None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a claim came back with. `more`: lanes that are due were left, since others held them or their share is full;
    `more_patient`: lanes that can wait were left.

    `walked` is the share up to which it has looked beyond the oldest lanes; None when it looked at all there are.
    `again`: some of what was leased needs no place after all, so that another claim should follow.
    """

    items: Sequence[T]
    more: bool = False
    more_patient: bool = False
    walked: Share | None = None
    again: bool = False


class LeaseLost(Exception):
    """The lane is somebody else's now, or nobody can tell: stop, and start nothing outside."""
