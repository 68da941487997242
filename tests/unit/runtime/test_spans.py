"""Spans by OpenTelemetry's SDK, as a process of ours makes them."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider

from parley_client.tracing import context_from
from services.runtime.tracing.sampling import Cap
from services.runtime.tracing.spans import current
from tests.support.spans import recording

RECORDED = context_from(f"00-{1:032x}-{2:016x}-01", "vendor=x")
UNRECORDED = context_from(f"00-{1:032x}-{2:016x}-00", "")


@pytest.fixture
def spans() -> list[Span]:
    return []


@pytest.fixture
def tracer(spans: list[Span]) -> trace.Tracer:
    return recording(spans).get_tracer("test")


def test_a_child_continues_its_parents_trace(spans: list[Span], tracer: trace.Tracer) -> None:
    tracer.start_span("child", RECORDED, trace.SpanKind.SERVER, {"a": "b"}).end()
    (span,) = spans
    assert (span.trace_id, span.parent_span_id) == ((1).to_bytes(16), (2).to_bytes(8))
    assert (span.trace_state, span.attributes[0].value.string_value) == ("vendor=x", "b")


async def test_tasks_keep_their_own_current_span(spans: list[Span], tracer: trace.Tracer) -> None:
    async def work(name: str) -> None:
        with current(tracer.start_span(name)):
            await asyncio.sleep(0)
            with current(tracer.start_span(f"{name} inside")):
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))
    by_name = {span.name: span for span in spans}
    for name in "ab":
        assert by_name[f"{name} inside"].parent_span_id == by_name[name].span_id
    assert not trace.get_current_span().get_span_context().is_valid


def test_below_a_span_that_is_not_recorded_nothing_is(spans: list[Span], tracer: trace.Tracer) -> None:
    with current(tracer.start_span("child", UNRECORDED)) as span:
        assert not span.is_recording()
        assert span.get_span_context().trace_id == 1
    assert spans == []


def test_a_new_trace_that_is_not_recorded_has_ids_all_the_same(spans: list[Span]) -> None:
    tracer = recording(spans, Cap(0, 0)).get_tracer("test")
    with current(tracer.start_span("root")) as root, current(tracer.start_span("child")) as child:
        assert root.get_span_context().is_valid
        assert not root.get_span_context().trace_flags.sampled
        assert child.get_span_context().trace_id == root.get_span_context().trace_id
    assert spans == []


def test_an_exception_marks_the_span_and_tells_no_phone_number(spans: list[Span], tracer: trace.Tracer) -> None:
    with pytest.raises(ValueError, match="call"), current(tracer.start_span("x")):
        raise ValueError("call +996555123456")
    (span,) = spans
    assert (span.status.code, span.status.message) == (2, "ValueError: call +***")
    assert b"996555" not in span.SerializeToString()


async def test_what_is_cancelled_has_not_failed(spans: list[Span], tracer: trace.Tracer) -> None:
    with pytest.raises(asyncio.CancelledError), current(tracer.start_span("x")):
        raise asyncio.CancelledError
    assert spans[0].status.code == 0


def test_limits_are_those_of_the_environment(spans: list[Span], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    recording(spans).get_tracer("test").start_span("x", attributes={"a": 1, "b": 2, "c": 3}).end()
    assert [each.key for each in spans[0].attributes] == ["b", "c"]
    assert spans[0].dropped_attributes_count == 1


def test_the_sdk_can_be_switched_off(spans: list[Span], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    provider: TracerProvider = recording(spans)
    with current(provider.get_tracer("test").start_span("x")) as span:
        span.set_attribute("a", 1)
    assert spans == []
