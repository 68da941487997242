import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from services.kernel.clock import SystemClock
from services.telemetry.domain.gathering import Gathering
from services.telemetry.domain.traces import Filters, Piece, Position, Summary, Upkeep
from services.telemetry.ports import StoreAway, StoreRefuses
from services.telemetry.usecases import Sink
from tests.support.otlp import SpanMade, export, new_trace_id


class ScriptedStore:
    """Keeps pieces in memory; `faults` are raised first."""

    def __init__(self, *faults: Exception) -> None:
        self.pieces: list[Piece] = []
        self.faults = list(faults)
        self.poison: set[bytes] = set()
        self.wrote = asyncio.Event()

    async def write(self, pieces: Sequence[Piece], now: datetime) -> None:
        self.wrote.set()
        if self.faults:
            raise self.faults.pop(0)
        if self.poison & {piece.trace_id for piece in pieces}:
            raise StoreRefuses
        self.pieces += pieces

    async def of_trace(self, trace_id: bytes, tenant_id: str) -> list[Piece]:
        return []

    async def find(self, filters: Filters, after: Position | None, limit: int) -> list[Summary]:
        return []

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def days(self) -> Mapping[date, bool]:
        return {}

    async def keep_up(self, work: Upkeep, slow: timedelta) -> None:
        """There are no partitions."""


def sink_of(store: ScriptedStore, *, max_bytes: int = 1_000_000) -> Sink:
    return Sink(store, Gathering(max_bytes=max_bytes, quiet=0, longest=0), SystemClock())


async def run_until_written(sink: Sink, store: ScriptedStore) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    await asyncio.wait_for(store.wrote.wait(), 30)
    stop.set()
    await asyncio.wait_for(running, 30)


async def test_what_comes_in_is_stored_and_counted() -> None:
    store = ScriptedStore()
    sink = sink_of(store)
    request = export([SpanMade(new_trace_id()), SpanMade(new_trace_id())])
    assert sink.receive(request, request.ByteSize(), None) == 0
    assert sink.waiting == 2
    await run_until_written(sink, store)
    assert len(store.pieces) == 2
    assert (sink.counts.received, sink.counts.stored, sink.waiting) == (2, 2, 0)


async def test_too_much_is_dropped_and_counted_without_waiting() -> None:
    sink = sink_of(ScriptedStore(), max_bytes=2000)
    request = export([SpanMade(new_trace_id(), attributes={"long": "x" * 600})])
    assert sink.receive(request, request.ByteSize(), None) == 0
    assert sink.receive(request, request.ByteSize(), None) == 1
    assert (sink.counts.received, sink.counts.dropped, sink.waiting) == (2, 1, 1)


async def test_a_store_that_is_away_is_tried_again() -> None:
    store = ScriptedStore(StoreAway(), StoreAway())
    sink = sink_of(store)
    sink.receive(export([SpanMade(new_trace_id())]), 100, None)
    stop = asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    async with asyncio.timeout(30):
        while not store.pieces:
            await asyncio.sleep(0.001)
    stop.set()
    await running
    assert sink.counts.stored == 1


async def test_a_store_that_is_away_at_the_end_does_not_hold_the_process() -> None:
    store = ScriptedStore(*[StoreAway() for _ in range(100)])
    sink = sink_of(store)
    sink.receive(export([SpanMade(new_trace_id())]), 100, None)
    await run_until_written(sink, store)
    assert (sink.counts.stored, sink.counts.dropped) == (0, 1)


async def test_what_the_store_refuses_is_dropped_and_the_next_is_stored() -> None:
    store = ScriptedStore(StoreRefuses())
    sink = sink_of(store)
    sink.receive(export([SpanMade(new_trace_id())]), 100, None)
    await run_until_written(sink, store)
    sink.receive(export([SpanMade(new_trace_id())]), 100, None)
    await run_until_written(sink, store)
    assert (sink.counts.dropped, sink.counts.stored) == (1, 1)


async def test_one_trace_that_the_store_refuses_is_dropped_alone() -> None:
    store = ScriptedStore()
    sink = sink_of(store)
    traces = [new_trace_id() for _ in range(20)]
    store.poison = {traces[7]}
    sink.receive(export([SpanMade(trace_id) for trace_id in traces]), 2000, None)
    await run_until_written(sink, store)
    assert {piece.trace_id for piece in store.pieces} == set(traces) - store.poison
    assert (sink.counts.stored, sink.counts.dropped) == (19, 1)


@pytest.mark.parametrize("writing", [False, True])
async def test_a_trace_can_be_read_before_it_is_stored(writing: bool) -> None:
    trace_id = new_trace_id()
    store = ScriptedStore(*[StoreAway() for _ in range(100)])
    sink = sink_of(store)
    sink.receive(export([SpanMade(trace_id)]), 100, None)
    stop = asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    if writing:
        await asyncio.wait_for(store.wrote.wait(), 30)
    assert [piece.span_count for piece in sink.of_trace(trace_id)] == [1]
    stop.set()
    await running
