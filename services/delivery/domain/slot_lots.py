"""Slots of a channel's rate that a process takes several at a time. Pure bookkeeping; seconds of one clock.

A lot counts against the rate as soon as it is granted, and slots that are not used within a second are lost, since
nobody else could have had them. So a lot is never larger than what the channel sent in the last second. A channel that
is idle, or that has used most of its rate, takes one slot at a time.
"""

from collections import deque
from dataclasses import dataclass, field

LASTS = 1.0
"""Seconds for which a lot is in hand."""
MOST = 100
"""Slots of one lot."""
SHARE = 0.75
"""Of a rate: once so much of it is used, slots are taken one at a time."""
PAUSE = 1.0
"""Seconds for which slots are taken one at a time after a lot was refused."""
LOW = 4
"""The next lot is taken when one in so many slots of the last one is left."""


@dataclass(slots=True)
class SlotLots:
    """Of one channel in one process."""

    room: float = MOST
    """How many more slots may be used before they are taken one at a time, as limits said last."""
    _hand: deque[tuple[float, int]] = field(default_factory=deque)
    """How many slots are good until when, the oldest first."""
    _second: int = 0
    _used: int = 0
    _used_before: int = 0
    """Slots that were used in that second, and in the one before."""
    _alone_until: float = 0.0

    def take(self, now: float) -> float | None:
        """A slot in hand: until when it is good. None when there is none."""
        while self._hand and self._hand[0][0] <= now:
            self._hand.popleft()
        if not self._hand:
            return None
        until, left = self._hand.popleft()
        if left > 1:
            self._hand.appendleft((until, left - 1))
        self.used(now)
        return until

    def put_back(self, until: float) -> None:
        """A slot that was taken was not needed."""
        self._hand.appendleft((until, 1))
        self._used = max(0, self._used - 1)

    def used(self, now: float) -> None:
        """A slot is used, wherever it is from."""
        self._turn(now)
        self._used += 1

    def size(self, now: float) -> int:
        """How many slots to take at once; 1 for none but the one that is needed."""
        self._turn(now)
        if now < self._alone_until:
            return 1
        return max(1, int(min(MOST, self.room, max(self._used, self._used_before))))

    def runs_low(self, now: float) -> bool:
        """Whether a further lot should be taken before this one is used up."""
        return LOW * sum(left for until, left in self._hand if until > now) <= self.size(now) > LOW

    def granted(self, slots: int, since: float) -> None:
        """A lot, asked for at `since`."""
        self._hand.append((since + LASTS, slots))

    def refused(self, now: float) -> None:
        """There was no room for a lot."""
        self._alone_until = now + PAUSE

    def drop(self) -> None:
        """What is in hand is not to be used: the channel was changed, or its provider wants a pause."""
        self._hand.clear()

    def _turn(self, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._used_before = self._used if second == self._second + 1 else 0
            self._second, self._used = second, 0
