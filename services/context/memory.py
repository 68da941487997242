"""The first level: documents in the memory of one process.

Eviction: the entry that was read longest ago goes when the cache is full, and any entry goes at its age limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Document = TypeVar("Document")


class Memory(Generic[Document]):
    """An LRU cache of versioned documents. A fill never puts an older version over a newer one."""

    def __init__(self, entries: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = entries
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, int, Document]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> tuple[int, Document] | None:
        """The document with its version."""
        found = self._kept.get(key)
        if found is None:
            return None
        until, version, document = found
        if until < self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return version, document

    def put(self, key: Hashable, version: int, document: Document) -> None:
        """Keep the document, unless a newer one is there."""
        found = self._kept.get(key)
        if found is not None and found[1] > version:
            return
        self._kept[key] = (self._clock() + self._seconds, version, document)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def drop(self, key: Hashable, below: int | None = None) -> None:
        """Forget the entry; with `below`, only a version older than that."""
        found = self._kept.get(key)
        if found is not None and (below is None or found[1] < below):
            del self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
