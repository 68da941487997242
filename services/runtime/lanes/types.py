"""What goes into lanes and comes out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from services.runtime.lanes.shares import Share

T = TypeVar("T")

NOW = timedelta(0)
LOST_TOO_OFTEN = 2
"""Lost workers from which on a lane is taken alone, and each taking counts as an attempt."""


@dataclass(frozen=True, slots=True)
class Append:
    """`count` more messages wait in a lane. An idle lane is due after `due_in`, and takes its place from `share`.

    A waiting one keeps its time and its share.
    """

    lane_id: UUID
    tenant_id: str
    count: int = 1
    due_in: timedelta = NOW
    share: str = ""


class Held(NamedTuple):
    """A lease by what proves it."""

    lane_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lane until `lease_until`, by the database's clock.

    `pending` messages wait after `done_seq`. `attempts` counts this one: 1 is the first. `expired` says that
    the lane was taken over from a worker that neither finished nor renewed; `losses` how often that came to be in a
    row. `delays` is how often in a row the lane was put off.
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
    """How a lease ends: the first `done` messages are done.

    When more wait, the lane is due at once, or after `due_in`. `attempts`, `data_version` and `delays` are the
    new values; None leaves them.
    """

    lane_id: UUID
    fence: int
    done: int
    due_in: timedelta | None = None
    attempts: int | None = 0
    data_version: int | None = None
    delays: int | None = 0


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a claim came back with. `more`: lanes that are due were left, since others held them or their share is full.

    `walked` is the share up to which it has looked beyond the oldest lanes; None when it looked at all there are.
    `again`: some of what was leased needs no place after all, so that another claim should follow.
    """

    items: Sequence[T]
    more: bool = False
    walked: Share | None = None
    again: bool = False


class LeaseLost(Exception):
    """The lane is somebody else's now, or nobody can tell: stop, and start nothing outside."""
