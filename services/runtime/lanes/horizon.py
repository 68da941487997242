"""From when on a claim looks for lanes that are due.

Each lease and its end leave an entry in the index of due times. PostgreSQL forgets these soon, but not while somebody
reads a snapshot from before them: a backup. Then a claim that begins at the first entry walks over all that was done
since the backup began. Claims look at everything as long as that is quick. Once it is not, they begin where the oldest
lane was that the claim before has seen, less what a commit may take. What was dated further back, or committed more
slowly, is met by the claims that look at everything, which still come now and then, more rarely when they take long.
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


class Horizon:
    """One per process and kind of lane. Times of lanes are the database's."""

    def __init__(self) -> None:
        self._since = EVER
        self._began = 0.0
        self._slow = False
        self._next_whole = 0.0
        self._whole = False

    @property
    def calm(self) -> bool:
        """Whether a look at everything is quick."""
        return not self._slow

    def since(self) -> datetime:
        """For the claim that is made now."""
        self._began = time.monotonic()
        self._whole = not self._slow or self._began >= self._next_whole
        return EVER if self._whole else self._since

    def seen(self, oldest_due: datetime, lanes: int) -> None:
        """The claim is over: when the oldest lane was due that it saw, or when it was made, if there was none; and how
        many it has taken."""
        if self._whole:
            now = time.monotonic()
            took = now - self._began
            self._slow = took > QUICK + QUICK_LANE * lanes
            self._next_whole = now + min(max(WHOLE_EVERY, PATIENCE * took), LONGEST)
        self._since = oldest_due - MARGIN
