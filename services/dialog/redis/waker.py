"""Wakes the workers of dialog processes."""

from services.dialog.domain.items import Item
from services.runtime.lanes import Dispatcher, Lease
from services.runtime.wakeups import Wakeups


class Waker:
    """Tells workers that something waits: those of this process, and when they are all busy, the others."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._dispatcher: Dispatcher[Item] | None = None
        self.listen = wakeups.listen(self._heard, self._heard)
        """Hears other processes."""

    def attach(self, dispatcher: Dispatcher[Item]) -> None:
        self._dispatcher = dispatcher

    def wake(self, seconds: float = 0.0) -> None:
        """Something is due now, or after so many seconds: then the other processes find it by polling."""
        if seconds > 0:
            self.wake_later(seconds)
            return
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
        """Something of this process's own is due after so many seconds."""
        if self._dispatcher is not None:
            self._dispatcher.wake(seconds)

    def _heard(self, _: object = None) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()
