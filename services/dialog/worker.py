"""Wakes the workers of dialog processes."""

from services.dialog.turns import Claimed, Unreadable
from services.runtime.lanes import Dispatcher, Lease
from services.runtime.wakeups import Wakeups


class Waker:
    """Tells workers that something waits: those of this process, and when they are all busy, the others."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._dispatcher: Dispatcher[Claimed | Unreadable] | None = None
        self.listen = wakeups.listen(self._heard, self._heard)
        """Hears other processes."""

    def attach(self, dispatcher: Dispatcher[Claimed | Unreadable]) -> None:
        self._dispatcher = dispatcher

    def wake(self) -> None:
        """Something is due now."""
        if self._dispatcher is not None:
            self._dispatcher.wake()
            if not self._dispatcher.busy:
                return
        self._wakeups.publish()

    def leave(self, lease: Lease, seconds: float) -> None:
        """Take no lane like this one for a while, so that a newer process does."""
        if self._dispatcher is not None:
            self._dispatcher.bar((lease.tenant_id, lease.share), seconds)

    def wake_later(self, seconds: float) -> None:
        """Something of this process's own is due after so many seconds; the others would find it by polling."""
        if self._dispatcher is not None:
            self._dispatcher.wake(seconds)

    def _heard(self, _: object = None) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()
