"""Spans leave in batches; a backend that is away costs memory up to a bound, and no more."""

import asyncio
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from services.runtime.tracing import export
from services.runtime.tracing.export import Batch, Handover, Outbound, Refused, apart, encode, joined


class Backend:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.poison: set[str] = set()
        self.attempts = 0

    async def take(self, request: bytes) -> None:
        self.attempts += 1
        if self.away:
            raise ConnectionError("away")
        names = names_of(request)
        if self.poison & set(names):
            raise Refused("INVALID_ARGUMENT")
        self.batches.append(names)

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


def names_of(request: bytes) -> list[str]:
    resources = ExportTraceServiceRequest.FromString(request).resource_spans
    return [span.name for each in resources for scope in each.scope_spans for span in scope.spans]


def span(name: object, scope: str = "test") -> ReadableSpan:
    context = SpanContext(0xAB << 100, 0xCD, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(str(name), context, start_time=1, end_time=2, instrumentation_scope=InstrumentationScope(scope))


def batch(*names: object) -> Batch:
    (encoded,) = encode([span(name) for name in names])
    return encoded


def fill(outbound: Outbound, names: range, size: int = 100) -> None:
    for first in range(names.start, names.stop, size):
        outbound.offer(batch(*range(first, min(first + size, names.stop))))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def named(names: range) -> list[str]:
    return [str(name) for name in names]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setattr(export, "FIRST_PAUSE", 0.01)
    return Backend()


async def test_spans_of_the_sdk_leave_in_order_with_what_is_left_at_the_end(backend: Backend) -> None:
    outbound = Outbound("test", backend.take)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Handover(outbound.offer), schedule_delay_millis=60_000))
    tracer = provider.get_tracer("test")
    for i in range(1200):
        tracer.start_span(str(i)).end()
    await asyncio.to_thread(provider.shutdown)
    await outbound.close()
    assert backend.names == named(range(1200))
    assert max(len(each) for each in backend.batches) <= 512


async def test_spans_wait_for_a_backend_that_is_away(backend: Backend) -> None:
    backend.away = True
    outbound = Outbound("test", backend.take)
    fill(outbound, range(600))
    await until(lambda: backend.attempts >= 2)
    backend.away = False
    await until(lambda: len(backend.names) == 600)
    assert backend.names == named(range(600))
    assert outbound.dropped == 0
    await outbound.close()


async def test_too_many_spans_push_out_the_oldest(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_BYTES", 10 * len(batch(*range(100, 110)).request))
    backend.away = True
    outbound = Outbound("test", backend.take)
    fill(outbound, range(100, 350), size=10)
    assert outbound.dropped == 150
    await until(lambda: backend.attempts >= 1)
    backend.away = False
    await until(lambda: len(backend.names) == 100)
    assert backend.names == named(range(250, 350))
    await outbound.close()


async def test_what_comes_while_a_batch_is_under_way_does_not_exceed_the_bound(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_BYTES", len(batch("new").request))
    outbound = Outbound("test", backend.take)

    async def interrupted(request: bytes) -> None:
        outbound._send = backend.take
        outbound.offer(batch("new"))
        raise ConnectionError("away")

    outbound._send = interrupted
    outbound.offer(batch("old"))
    await until(lambda: backend.names)
    assert (backend.names, outbound.dropped) == (["new"], 1)
    await outbound.close()


async def test_a_span_that_is_refused_for_good_is_dropped_and_holds_up_nothing(backend: Backend) -> None:
    backend.poison = {"7"}
    outbound = Outbound("test", backend.take)
    fill(outbound, range(600), size=512)
    await until(lambda: len(backend.names) == 599)
    assert backend.names == [name for name in named(range(600)) if name != "7"]
    assert outbound.dropped == 1
    await outbound.close()


async def test_a_backend_that_goes_away_while_a_bad_span_is_sought_gets_every_good_one_once(backend: Backend) -> None:
    backend.poison = {"3"}
    outbound = Outbound("test", backend.take)

    async def flaky(request: bytes) -> None:
        if backend.attempts in (2, 4):
            backend.attempts += 1
            raise ConnectionError("away")
        await backend.take(request)

    outbound._send = flaky
    outbound.offer(batch(*range(16)))
    await until(lambda: len(backend.names) == 15)
    assert backend.names == [name for name in named(range(16)) if name != "3"]
    assert outbound.dropped == 1
    await outbound.close()


async def test_closing_gives_up_on_a_backend_that_is_away(backend: Backend) -> None:
    backend.away = True
    outbound = Outbound("test", backend.take)
    outbound.offer(batch(1))
    async with asyncio.timeout(30):
        await outbound.close()


async def test_closing_does_not_wait_for_a_backend_that_hangs() -> None:
    outbound = Outbound("test", lambda _: asyncio.sleep(60))
    outbound.offer(batch(1))
    async with asyncio.timeout(30):
        await outbound.close(seconds=0.05)


def test_a_span_that_cannot_be_encoded_takes_no_other_with_it() -> None:
    batches = encode([span(1), span("\ud800"), span(3)])
    assert [name for each in batches for name in names_of(each.request)] == ["1", "3"]
    assert sum(each.spans for each in batches) == 2


def test_taken_apart_and_joined_spans_keep_their_resource_and_scope() -> None:
    (whole,) = encode([span(1, "a"), span(2, "b")])
    first, second = apart(whole)
    assert (names_of(first.request), names_of(second.request)) == (["1"], ["2"])
    resources = ExportTraceServiceRequest.FromString(joined([first, second]).request).resource_spans
    assert [each.scope_spans[0].scope.name for each in resources] == ["a", "b"]
    before = ExportTraceServiceRequest.FromString(whole.request).resource_spans[0]
    assert all(each.resource == before.resource for each in resources)
