"""What all connections share: who is let in, who is idle, who has to go."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from services.edge.server.bounds import Bounds
from services.edge.server.peers import Proxies, crowd_of
from services.runtime.logs import get_logger

log = get_logger(__name__)

TOLD_EVERY = 60.0
"""Seconds between two log lines on the same kind of refusal."""


class Guest(Protocol):
    """A connection, as the door sees it."""

    def overdue(self, now: float) -> None:
        """Close it when its time is over."""

    def leave(self) -> None:
        """Close it as soon as its request is answered; at once when it has none."""

    def abort(self) -> None:
        """Close it now."""


class Door:
    """Counts connections and requests, and says no."""

    def __init__(self, bounds: Bounds, proxies: Proxies, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.proxies = proxies
        self.clock = clock
        self.guests: set[Guest] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.refused: Counter[str] = Counter()
        """What was refused since the start, by kind."""
        self.closing = False
        self._idle: dict[Guest, None] = {}
        self._crowds: Counter[str] = Counter()
        self._told: dict[str, float] = {}
        self._date = (0.0, b"")

    def enter(self, guest: Guest, peer: str) -> str | None:
        """Let a connection in, in the place of the one that is idle longest when all are taken. None, or why not."""
        crowd = crowd_of(peer)
        if self._crowds[crowd] >= self.bounds.connections_per_address and not self.proxies.trust(peer):
            return self.refuse("connections_per_address", peer)
        if len(self.guests) >= self.bounds.connections and not self._make_room():
            return self.refuse("connections", peer)
        self.guests.add(guest)
        self._crowds[crowd] += 1
        return None

    def left(self, guest: Guest, peer: str) -> None:
        """The connection is no more."""
        if guest not in self.guests:
            return
        self.guests.discard(guest)
        self._idle.pop(guest, None)
        crowd = crowd_of(peer)
        self._crowds[crowd] -= 1
        if self._crowds[crowd] <= 0:
            del self._crowds[crowd]

    def rest(self, guest: Guest) -> None:
        """The connection waits for its next request."""
        self._idle[guest] = None

    def wake(self, guest: Guest) -> None:
        """The connection's next request has begun."""
        self._idle.pop(guest, None)

    def busy(self) -> bool:
        """Whether one request more would be too many."""
        return len(self.tasks) >= self.bounds.requests

    def refuse(self, kind: str, peer: str) -> str:
        """Count a refusal, and log the first of its kind in a while."""
        self.refused[kind] += 1
        now = self.clock()
        if self._told.get(kind, -TOLD_EVERY) + TOLD_EVERY <= now:
            self._told[kind] = now
            log.warning("refused", what=kind, address=crowd_of(peer), so_far=self.refused[kind], alert=True)
        return kind

    def sweep(self) -> None:
        """Close what is over its time."""
        now = self.clock()
        for guest in list(self.guests):
            guest.overdue(now)

    def date(self) -> bytes:
        """The header's line, made anew each second."""
        now = self.clock()
        if self._date[0] <= now:
            self._date = (now + 1.0, b"date: " + formatdate(usegmt=True).encode() + b"\r\n")
        return self._date[1]

    def _make_room(self) -> bool:
        idlest = next(iter(self._idle), None)
        if idlest is None:
            return False
        del self._idle[idlest]
        idlest.abort()
        return True
