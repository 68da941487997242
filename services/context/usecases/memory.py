"""The first cache level: documents in the memory of one process.

When the cache is full, the least recently read entry is evicted. Every entry is evicted when it reaches its age limit.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Document = TypeVar("Document")

FLOORS = 2000
"""The number of dropped keys that are remembered, so nothing read before a drop is put after it."""
EVERY_VERSION = sys.maxsize


class Memory(Generic[Document]):
    """An LRU cache of versioned documents.

    `put` never brings back a document that was dropped while it was being read: take a `mark` before you read or write,
    and pass it to `put`.
    """

    def __init__(self, entries: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = entries
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, int, Document]] = OrderedDict()
        self._now = 0
        """The number of drops and clears so far."""
        self._horizon = 0
        """A document that was read before this mark is not put, as nobody remembers what was dropped since."""
        self._floors: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()
        """For each dropped key, oldest first: the mark of the drop, and the version below which it dropped."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> tuple[int, Document] | None:
        """Returns the document and its version."""
        found = self._kept.get(key)
        if found is None:
            return None
        until, version, document = found
        if until < self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return version, document

    def mark(self) -> int:
        """Returns the present mark, for a later `put` of what is read or written from now on."""
        return self._now

    def put(self, key: Hashable, version: int, document: Document, since: int) -> None:
        """Keeps the document, unless a newer one is there or this one was dropped after the mark `since`."""
        found = self._kept.get(key)
        if found is not None and found[1] > version:
            return
        self._kept.pop(key, None)
        dropped, below = self._floors.get(key, (0, 0))
        if since < self._horizon or (since < dropped and version < below):
            return
        self._kept[key] = (self._clock() + self._seconds, version, document)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def drop(self, key: Hashable, below: int = EVERY_VERSION) -> None:
        """Forgets the entry if its version is lower than `below`, even if it is only just being read."""
        found = self._kept.get(key)
        if found is not None and found[1] < below:
            del self._kept[key]
        self._now += 1
        _, floor = self._floors.pop(key, (0, 0))
        self._floors[key] = (self._now, max(floor, below))
        if len(self._floors) > FLOORS:
            _, (self._horizon, _) = self._floors.popitem(last=False)

    def clear(self) -> None:
        """Forgets everything, including what is only just being read."""
        self._kept.clear()
        self._floors.clear()
        self._now += 1
        self._horizon = self._now
