"""How far back a claim looks for lanes that are due.

Each lease, and each end of one, leaves an entry in the index of due times. PostgreSQL drops such entries soon, but
not while somebody, such as a backup, reads a snapshot from before them. A claim that began at the first entry would
then walk over everything done since the backup began. So claims look at everything only as long as that is quick.
After that they begin at the oldest lane that the previous claim saw, less the time that a commit may take. A lane
that was dated further back, or whose commit took longer, is found by a claim that looks at everything: one still
comes now and then, less often the longer it takes.
"""

import time
from datetime import UTC, datetime, timedelta

EVER = datetime(1970, 1, 1, tzinfo=UTC)
MARGIN = timedelta(seconds=0.1)
"""Between a statement that makes a lane due, and its commit."""
QUICK, QUICK_LANE = 0.003, 0.00005
"""Seconds that a claim which looks at everything may take, and more for each lane that it takes."""
WHOLE_EVERY, LONGEST = 1.0, 10.0
"""Seconds between two claims that look at everything, when these are slow, and when they take long."""
PATIENCE = 50
"""Such a claim is made again after so many times as long as it took, at least."""


class Lookback:
    """Where the next claim begins. A process has one for each kind of lane; due times are the database's."""

    def __init__(self) -> None:
        self._since = EVER
        self._began = 0.0
        self._slow = False
        self._next_whole = 0.0
        self._whole = False

    @property
    def is_quick(self) -> bool:
        """Whether claims that look at everything are quick."""
        return not self._slow

    def since(self) -> datetime:
        """Where the claim that is made now begins."""
        self._began = time.monotonic()
        self._whole = not self._slow or self._began >= self._next_whole
        return EVER if self._whole else self._since

    def seen(self, oldest_due: datetime, lanes: int) -> None:
        """Notes what the claim found: when the oldest lane it saw was due, or when it was made if it saw none, and how
        many lanes it took."""
        if self._whole:
            now = time.monotonic()
            took = now - self._began
            self._slow = took > QUICK + QUICK_LANE * lanes
            self._next_whole = now + min(max(WHOLE_EVERY, PATIENCE * took), LONGEST)
        self._since = oldest_due - MARGIN
