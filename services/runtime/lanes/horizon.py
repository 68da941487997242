"""From when on a claim looks for lanes that are due.

Each lease and its end leave an entry in the index of due times. PostgreSQL forgets these soon, but not while somebody
reads a snapshot from before them: a backup. Then a claim that begins at the first entry walks over all that was done
since the backup began. So a claim begins where the oldest lane was that the claim before has seen, less what a commit
may take. What was dated further back, or committed more slowly, is met by the claims that look at everything, which
come every few seconds, and more rarely when they take long.
"""

import time
from datetime import UTC, datetime, timedelta

EVER = datetime(1970, 1, 1, tzinfo=UTC)
MARGIN = timedelta(seconds=0.5)
"""Between a statement that makes a lane due, and its commit."""
WHOLE_EVERY, LONGEST = 2.0, 10.0
"""Seconds between two claims that look at everything, and when these take long."""
PATIENCE = 50
"""Such a claim is made again after so many times as long as it took, at least."""


class Horizon:
    """One per process and kind of lane. Times of lanes are the database's."""

    def __init__(self) -> None:
        self._since = EVER
        self._whole_at = 0.0
        self._next_whole = 0.0
        self._asked_whole = False

    @property
    def lately(self) -> datetime:
        """For a claim that takes what has become due lately, and leaves it to others to tell what they saw."""
        return self._since

    def since(self) -> datetime:
        """For the claim that is made now."""
        now = time.monotonic()
        self._asked_whole = now >= self._next_whole
        if self._asked_whole:
            self._whole_at = now
            return EVER
        return self._since

    def seen(self, oldest_due: datetime) -> None:
        """The claim is over: when the oldest lane was due that it saw, or when it was made, if there was none."""
        if self._asked_whole:
            now = time.monotonic()
            took = now - self._whole_at
            self._next_whole = now + min(max(WHOLE_EVERY, PATIENCE * took), LONGEST)
        self._since = oldest_due - MARGIN
