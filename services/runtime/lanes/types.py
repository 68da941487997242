"""What goes into lanes and comes out of them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

NOW = timedelta(0)


@dataclass(frozen=True, slots=True)
class Append:
    """`count` more messages wait in a lane. An idle lane is due after `due_in`.

    A waiting one keeps its time.
    """

    lane_id: UUID
    tenant_id: str
    count: int = 1
    due_in: timedelta = NOW


class Held(NamedTuple):
    """A lease by what proves it."""

    lane_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lane until `lease_until`, by the database's clock.

    `pending` messages wait after `done_seq`. `attempts` counts this one: 1 is the first. `expired` says that
    the lane was taken over from a worker that neither finished nor renewed.
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

    @property
    def lease(self) -> "Lease":
        """Itself, so that a bare lease can stand where a lease with payload is expected."""
        return self

    @property
    def held(self) -> Held:
        return Held(self.lane_id, self.fence)


class Settle(NamedTuple):
    """How a lease ends: the first `done` messages are done.

    When more wait, the lane is due at once, or after `due_in`. `attempts` and `data_version` are the new
    values; None leaves them.
    """

    lane_id: UUID
    fence: int
    done: int
    due_in: timedelta | None = None
    attempts: int | None = 0
    data_version: int | None = None


class LeaseLost(Exception):
    """The lane is somebody else's now, or nobody can tell: stop, and start nothing outside."""
