"""Takes spans in, stores them, keeps the daily partitions in order, and finds traces."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from itertools import islice
from time import monotonic
from typing import TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.kernel.clock import Clock
from services.runtime.background import periodic, stopped
from services.runtime.halving import send_in_halves
from services.runtime.logs import describe, get_logger
from services.telemetry.domain.gathering import Gathered, Gathering, Key, count, pieces_of
from services.telemetry.domain.traces import DaysKept, Filters, Piece, Position, Summary, upkeep
from services.telemetry.ports import Store, StoreAway, StoreRefuses

log = get_logger(__name__)
T = TypeVar("T")

WRITE_EVERY = 0.5
"""Seconds between two looks for traces to store."""
WRITE_AT_ONCE = 500
"""Traces in one write. Other tasks run between two writes."""
_LONGEST_PAUSE = 30.0
_TELL_EVERY = 10.0


@dataclass
class Counts:
    """What has happened to spans since the process started."""

    received: int = 0
    stored: int = 0
    dropped: int = 0
    """Because there was no room, or because the database refused them."""
    refused: int = 0
    """Malformed, or for a tenant that is not the sender's."""


class Sink:
    """Takes spans in without ever waiting for the database, and stores them in the background."""

    def __init__(self, store: Store, gathering: Gathering, clock: Clock) -> None:
        self._store = store
        self._gathering = gathering
        self._clock = clock
        self._writing: Mapping[Key, Gathered] = {}
        self._told_at = 0.0
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Spans that are not stored yet."""
        return self._gathering.spans + sum(each.span_count for each in self._writing.values())

    def receive(self, request: ExportTraceServiceRequest, size: int, tenants: frozenset[str] | None) -> int:
        """Takes in an export of `size` bytes; returns how many of its spans were not taken.

        `tenants` are those that the sender may speak for; None means all.
        """
        spans = count(request)
        self.counts.received += spans
        if not self._gathering.has_room(size):
            self._drop(spans, "more came than may wait")
            return spans
        refused = self._gathering.add(request, monotonic(), tenants)
        self.counts.refused += refused
        return refused

    def of_trace(self, trace_id: bytes) -> list[Piece]:
        """Returns what has come of a trace and is not stored yet."""
        return [*self._gathering.of_trace(trace_id), *pieces_of(self._writing, trace_id)]

    async def run(self, stop: asyncio.Event) -> None:
        """Stores what comes in until `stop` is set, and then the rest."""
        writing = periodic("spans", lambda: self._write(self._gathering.take(monotonic()), stop), every=WRITE_EVERY)
        await writing(stop)
        await self._write(self._gathering.take(monotonic(), everything=True), stop)

    async def _write(self, traces: Mapping[Key, Gathered], stop: asyncio.Event) -> None:
        self._writing = traces
        try:
            for some in batched(traces.items(), WRITE_AT_ONCE):
                pieces = [piece for (trace_id, _), each in some for piece in each.pieces(trace_id)]
                parts: list[Sequence[Piece]] = [pieces]
                try:
                    await send_in_halves(parts, partial(self._store_pieces, stop), StoreRefuses, self._drop_pieces)
                except StoreAway as error:
                    for part in parts:
                        self._drop_pieces(part, error)
        finally:
            self._writing = {}

    async def _store_pieces(self, stop: asyncio.Event, pieces: Sequence[Piece]) -> None:
        """Stores pieces, however long the database is away. A stopping process tries once."""
        pause = 0.1
        while True:
            try:
                await self._store.write(pieces, self._clock.now())
                self.counts.stored += sum(piece.span_count for piece in pieces)
                return
            except StoreAway:
                if stop.is_set():
                    raise
                await stopped(stop, pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _drop_pieces(self, pieces: Sequence[Piece], error: Exception) -> None:
        self._drop(sum(piece.span_count for piece in pieces), describe(error))

    def _drop(self, spans: int, why: str) -> None:
        self.counts.dropped += spans
        if monotonic() - self._told_at > _TELL_EVERY:
            self._told_at = monotonic()
            log.warning("spans are dropped", why=why, dropped_so_far=self.counts.dropped)


class Traces:
    """Finds traces, stored or still on their way to the store."""

    def __init__(self, store: Store, sink: Sink) -> None:
        self._store = store
        self._sink = sink

    async def get(self, trace_id: bytes, tenant_id: str) -> list[Piece]:
        """Returns the pieces of a trace. `spans_of` says what of them a tenant may see."""
        waiting = self._sink.of_trace(trace_id)
        return [*await self._store.of_trace(trace_id, tenant_id), *waiting]

    async def find(self, filters: Filters, after: Position | None, limit: int) -> list[Summary]:
        """Returns traces of a tenant, newest first. Those of the last seconds may be missing."""
        return await self._store.find(filters, after, limit)


class Upkeeper:
    """Keeps the daily partitions in order."""

    def __init__(self, store: Store, kept: DaysKept, clock: Clock) -> None:
        self._store = store
        self._kept = kept
        self._clock = clock

    async def look(self) -> None:
        """Does what is due now. Raises StoreAway or StoreRefuses."""
        now = self._clock.now()
        past = min(now, await self._store.now())
        work = upkeep(now.date(), past.astimezone(UTC).date(), await self._store.days(), self._kept)
        if work.create or work.thin or work.drop:
            await self._store.keep_up(work, self._kept.slow)
            log.info("partitions", created=len(work.create), thinned=len(work.thin), dropped=len(work.drop))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields lists of `size` items; the last may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
