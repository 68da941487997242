import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from parley.limits.v1 import limits_pb2

from parley_client import tracing
from parley_client.channel import Connection
from parley_client.errors import ResourceExhausted
from parley_client.limits import LimitsClient
from tests.unit.parley_client.conftest import ScriptedLimits, until

CHECK = limits_pb2.CheckRequest(tenant_id="demo", resource="model.turn")
RESERVE = limits_pb2.ReserveRequest(tenant_id="demo", request_id="r", resource="model.turn")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is exported by a provider of this test, in the place of the process's."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", lambda name="parley_client": provider.get_tracer(name))
    yield exporter
    provider.shutdown()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Tracer:
    return tracing.tracer("test")


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def parent_of(header: object) -> str:
    return str(header).split("-")[2]


async def test_a_call_below_a_sampled_span_has_a_client_span(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter, tracer: Tracer
) -> None:
    with tracer.start_as_current_span("above") as above:
        await LimitsClient(connection).check(CHECK)
    (span,) = named(spans, "parley.limits.v1.LimitsService/Check")
    assert span.kind is SpanKind.CLIENT
    assert span.parent == above.get_span_context()
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "parley.limits.v1.LimitsService/Check",
        "rpc.response.status_code": "OK",
    }
    assert span.context is not None
    assert parent_of(limits.metadata[0]["traceparent"]) == f"{span.context.span_id:016x}"


async def test_each_item_of_a_batch_has_its_own_span_and_trace(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter, tracer: Tracer
) -> None:
    async def one() -> int:
        with tracer.start_as_current_span("above", context=context.Context()) as above:
            await client.reserve(RESERVE)
            return above.get_span_context().trace_id

    client = LimitsClient(connection)
    traces = set(await asyncio.gather(one(), one(), one()))
    found = named(spans, "parley.limits.v1.LimitsService/Reserve")
    assert {span.context.trace_id for span in found if span.context} == traces
    (batch,) = limits.batches
    assert {parent_of(item.context.traceparent) for item in batch.items} == {
        f"{span.context.span_id:016x}" for span in found if span.context
    }
    assert "traceparent" not in limits.metadata[0], "the batch itself is part of no message's trace"


async def test_a_failed_call_is_an_error_of_its_span(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter, tracer: Tracer
) -> None:
    limits.behave = limits.refuse
    with tracer.start_as_current_span("above"), pytest.raises(ResourceExhausted):
        await LimitsClient(connection).check(CHECK)
    with tracer.start_as_current_span("above"), pytest.raises(ResourceExhausted):
        await LimitsClient(connection).reserve(RESERVE)
    for rpc in ("Check", "Reserve"):
        (span,) = named(spans, f"parley.limits.v1.LimitsService/{rpc}")
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "RESOURCE_EXHAUSTED"


async def test_a_cancelled_call_still_ends_its_span(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter, tracer: Tracer
) -> None:
    limits.behave = limits.hang
    client = LimitsClient(connection)
    with tracer.start_as_current_span("above"):
        calls = [asyncio.ensure_future(client.check(CHECK)), asyncio.ensure_future(client.reserve(RESERVE))]
    await until(lambda: len(limits.metadata) == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    for rpc in ("Check", "Reserve"):
        (span,) = named(spans, f"parley.limits.v1.LimitsService/{rpc}")
        assert span.attributes is not None
        assert span.attributes["error.type"] == "CANCELLED"


async def test_what_is_not_sampled_makes_no_span_and_is_passed_on(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter
) -> None:
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("above") as above:
        await LimitsClient(connection).check(CHECK)
        await LimitsClient(connection).reserve(RESERVE)
        parent = above.get_span_context()
    expected = f"00-{parent.trace_id:032x}-{parent.span_id:016x}-{parent.trace_flags:02x}"
    assert not parent.trace_flags.sampled
    assert limits.metadata[0]["traceparent"] == expected
    assert limits.batches[0].items[0].context.traceparent == expected
    assert not spans.get_finished_spans()


async def test_a_call_outside_any_trace_starts_none(
    connection: Connection, limits: ScriptedLimits, spans: InMemorySpanExporter
) -> None:
    await LimitsClient(connection).check(CHECK)
    assert "traceparent" not in limits.metadata[0]
    assert not spans.get_finished_spans()


def test_a_context_written_down_is_read_back(tracer: Tracer) -> None:
    with tracer.start_as_current_span("above") as above:
        written = tracing.inject()
    read = trace.get_current_span(tracing.context_from(*written)).get_span_context()
    assert read.is_remote
    assert (read.trace_id, read.span_id) == (above.get_span_context().trace_id, above.get_span_context().span_id)


def test_no_context_is_written_as_nothing_and_nonsense_is_read_as_none() -> None:
    assert tracing.inject() == ("", "")
    for nonsense in ("", "nonsense", "00-0-0-00"):
        assert not trace.get_current_span(tracing.context_from(nonsense)).get_span_context().is_valid
