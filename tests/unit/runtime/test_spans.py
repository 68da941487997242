"""Spans behave as OpenTelemetry's API says, and cost nothing where nothing is recorded."""

import asyncio
from collections.abc import Callable

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer

from parley_client.tracing import context_from
from services.runtime.tracing.sampling import Sampler
from services.runtime.tracing.spans import LeanProvider

RECORDED = context_from(f"00-{1:032x}-{2:016x}-01", "vendor=x")
UNRECORDED = context_from(f"00-{1:032x}-{2:016x}-00", "")


class Recorder:
    def __init__(self, ratio: float = 1.0) -> None:
        self.spans: list[Wire] = []
        self.tracer: Tracer = LeanProvider(Sampler(ratio, 0), self._take).get_tracer("test")

    def _take(self, span: bytes) -> None:
        self.spans.append(Wire.FromString(span))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_child_continues_its_parents_trace(recorder: Recorder) -> None:
    recorder.tracer.start_span("child", RECORDED, SpanKind.SERVER).end()
    (span,) = recorder.spans
    assert (span.trace_id, span.parent_span_id) == ((1).to_bytes(16), (2).to_bytes(8))
    assert span.trace_state == "vendor=x"
    assert span.flags == 0x300


def test_nested_spans_find_their_parent_in_the_context(recorder: Recorder) -> None:
    with recorder.tracer.start_as_current_span("outer") as outer, recorder.tracer.start_as_current_span("inner"):
        assert trace.get_current_span() is not outer
    inner, finished = recorder.spans
    assert inner.parent_span_id == finished.span_id
    assert not trace.get_current_span().get_span_context().is_valid


async def test_tasks_keep_their_own_current_span(recorder: Recorder) -> None:
    async def work(name: str) -> None:
        with recorder.tracer.start_as_current_span(name):
            await asyncio.sleep(0)
            with recorder.tracer.start_as_current_span(f"{name} inside"):
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))
    by_name = {span.name: span for span in recorder.spans}
    for name in "ab":
        assert by_name[f"{name} inside"].parent_span_id == by_name[name].span_id


def test_below_a_span_that_is_not_recorded_the_context_is_only_passed_on(recorder: Recorder) -> None:
    span = recorder.tracer.start_span("child", UNRECORDED)
    with span:
        span.set_attribute("a", 1)
        span.set_status(StatusCode.ERROR)
        assert not span.is_recording()
    assert span.get_span_context().trace_id == 1
    assert recorder.spans == []


def test_a_new_trace_that_is_not_recorded_has_ids_all_the_same() -> None:
    unrecorded = Recorder(ratio=0)
    with unrecorded.tracer.start_as_current_span("root") as span:
        child = unrecorded.tracer.start_span("child")
    assert span.get_span_context().is_valid
    assert not span.get_span_context().trace_flags.sampled
    assert child.get_span_context().trace_id == span.get_span_context().trace_id
    assert unrecorded.spans == []


def test_ids_are_new_each_time(recorder: Recorder) -> None:
    for _ in range(100):
        recorder.tracer.start_span("root").end()
    assert len({span.trace_id for span in recorder.spans}) == len({span.span_id for span in recorder.spans}) == 100


def test_a_span_ends_once(recorder: Recorder) -> None:
    span = recorder.tracer.start_span("once")
    span.end()
    span.end()
    assert len(recorder.spans) == 1
    assert not span.is_recording()


def test_given_times_names_links_and_events_are_kept(recorder: Recorder) -> None:
    other = trace.get_current_span(RECORDED).get_span_context()
    span = recorder.tracer.start_span("first", links=[Link(other)], start_time=5, attributes={"a": "b"})
    span.update_name("second")
    span.add_event("reset", {"n": 1}, 6)
    span.add_link(other)
    span.set_attributes({"c": True})
    span.end(7)
    (wire,) = recorder.spans
    assert (wire.name, wire.start_time_unix_nano, wire.end_time_unix_nano) == ("second", 5, 7)
    assert [each.key for each in wire.attributes] == ["a", "c"]
    assert (len(wire.links), wire.events[0].name) == (2, "reset")


def test_ok_is_final_and_unset_changes_nothing(recorder: Recorder) -> None:
    span = recorder.tracer.start_span("x")
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.set_status(StatusCode.UNSET)
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late")
    span.end()
    assert (recorder.spans[0].status.code, recorder.spans[0].status.message) == (1, "")


def enter_current(recorder: Recorder) -> None:
    with recorder.tracer.start_as_current_span("x"):
        raise ValueError("call +996555123456")


def enter_span(recorder: Recorder) -> None:
    with recorder.tracer.start_span("x"):
        raise ValueError("call +996555123456")


@pytest.mark.parametrize("enter", [enter_current, enter_span])
def test_an_exception_marks_the_span_and_tells_no_phone_number(
    recorder: Recorder, enter: Callable[[Recorder], None]
) -> None:
    with pytest.raises(ValueError, match="call"):
        enter(recorder)
    (span,) = recorder.spans
    assert (span.status.code, span.status.message) == (2, "ValueError: call +***")
    assert span.events[0].name == "exception"
    assert b"996555" not in span.SerializeToString()


def test_an_exception_may_be_left_out(recorder: Recorder) -> None:
    with (
        pytest.raises(KeyError),
        recorder.tracer.start_as_current_span("x", record_exception=False, set_status_on_exception=False),
    ):
        raise KeyError("x")
    assert not recorder.spans[0].events
    assert recorder.spans[0].status.code == 0


def test_use_span_works_with_our_spans(recorder: Recorder) -> None:
    span = recorder.tracer.start_span("x")
    with trace.use_span(span, end_on_exit=True):
        assert trace.get_current_span() is span
    assert otel_context.get_current() == {}
    assert len(recorder.spans) == 1
