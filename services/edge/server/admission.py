"""What all connections share: which are let in, which are idle, and which have to go."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from services.edge.server.addresses import Proxies, network_of
from services.edge.server.bounds import Bounds
from services.runtime.logs import get_logger

log = get_logger(__name__)

LOGGED_EVERY = 60.0
"""Seconds between two log lines on the same kind of refusal."""


class Closable(Protocol):
    """A connection."""

    def close_if_overdue(self, now: float) -> None:
        """Closes it when its time is over."""

    def finish(self) -> None:
        """Closes it as soon as its request is answered; at once when it has none."""

    def abort(self) -> None:
        """Closes it now."""


class Admission:
    """Counts connections and requests, and refuses what is too much."""

    def __init__(self, bounds: Bounds, proxies: Proxies, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.proxies = proxies
        self.clock = clock
        self.connections: set[Closable] = set()
        self.requests: set[asyncio.Task[None]] = set()
        self.refused: Counter[str] = Counter()
        """Refusals since the start, by kind."""
        self.closing = False
        self._idle: dict[Closable, None] = {}
        self._by_network: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        self._date = (0.0, b"")

    def admit(self, connection: Closable, peer: str) -> bool:
        """Lets a connection in; when all places are taken, in the place of the one that is idle longest."""
        network = network_of(peer)
        if self._by_network[network] >= self.bounds.connections_per_address and not self.proxies.trust(peer):
            self.refuse("connections_per_address", peer)
            return False
        if len(self.connections) >= self.bounds.connections and not self._make_room():
            self.refuse("connections", peer)
            return False
        self.connections.add(connection)
        self._by_network[network] += 1
        return True

    def release(self, connection: Closable, peer: str) -> None:
        """The connection is no more."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._idle.pop(connection, None)
        network = network_of(peer)
        self._by_network[network] -= 1
        if self._by_network[network] <= 0:
            del self._by_network[network]

    def mark_idle(self, connection: Closable) -> None:
        """The connection waits for its next request."""
        self._idle[connection] = None

    def mark_active(self, connection: Closable) -> None:
        """The connection's next request has begun."""
        self._idle.pop(connection, None)

    def is_full(self) -> bool:
        """Whether one request more would be too many."""
        return len(self.requests) >= self.bounds.requests

    def refuse(self, kind: str, peer: str) -> None:
        """Counts a refusal, and logs the first of its kind in a while."""
        self.refused[kind] += 1
        now = self.clock()
        if self._logged.get(kind, -LOGGED_EVERY) + LOGGED_EVERY <= now:
            self._logged[kind] = now
            log.warning("refused", what=kind, address=network_of(peer), so_far=self.refused[kind], alert=True)

    def close_overdue(self) -> None:
        """Closes the connections whose time is over."""
        now = self.clock()
        for connection in list(self.connections):
            connection.close_if_overdue(now)

    def date(self) -> bytes:
        """The `Date` header, made anew each second."""
        now = self.clock()
        if self._date[0] <= now:
            self._date = (now + 1.0, b"date: " + formatdate(usegmt=True).encode() + b"\r\n")
        return self._date[1]

    def _make_room(self) -> bool:
        idle_longest = next(iter(self._idle), None)
        if idle_longest is None:
            return False
        del self._idle[idle_longest]
        idle_longest.abort()
        return True
