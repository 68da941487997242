"""What a piece of work knows of its lease while it runs."""

import asyncio
from collections.abc import Awaitable, Callable

from services.runtime.lanes.types import Lease, LeaseLost

Renew = Callable[["Guard", float], Awaitable[None]]
"""Renews a guard's lease so that at least so many seconds are left, or marks it lost."""


class Guard:
    """A lease as seen by its worker, measured by the worker's own monotonic clock.

    Time counts from before the claim was sent, so a guard never believes the lease to be longer than the
    database does, whatever the clocks say.
    """

    def __init__(self, lease: Lease, *, expires: float, renew: Renew) -> None:
        """`expires` is in the event loop's time."""
        self.lease = lease
        self.lost = False
        self._expires = expires
        self._renew = renew

    @property
    def fence(self) -> int:
        return self.lease.fence

    def remaining(self) -> float:
        """Seconds of the lease that are left; zero or less when it has run out."""
        return self._expires - asyncio.get_running_loop().time()

    async def ensure(self, seconds: float) -> None:
        """Makes sure that the lease lasts `seconds` more, for a call outside that no fence can call back.

        Raises `LeaseLost` when the lane is another's, or when renewing fails.
        """
        if not self.lost and self.remaining() < seconds:
            try:
                await self._renew(self, seconds)
            except Exception as error:
                raise LeaseLost(f"the lease of lane {self.lease.lane_id} cannot be renewed") from error
        if self.lost or self.remaining() < seconds:
            raise LeaseLost(f"the lease of lane {self.lease.lane_id} is lost (fence {self.fence})")

    def extended(self, expires: float) -> None:
        """The lease was renewed until `expires` in the event loop's time, as counted from before the call."""
        self._expires = max(self._expires, expires)
