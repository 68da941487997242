import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from parley.telemetry.v1 import telemetry_pb2 as pb

from services.telemetry.convert import show, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (AnyValue(), ""),
        (AnyValue(string_value="да"), "да"),
        (AnyValue(bool_value=True), "true"),
        (AnyValue(int_value=7), "7"),
        (AnyValue(double_value=0.25), "0.25"),
        (AnyValue(bytes_value=b"\x01\xff"), "01ff"),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="b")])), "[1, b]"),
    ],
)
def test_attributes_are_shown_as_text(value: AnyValue, text: str) -> None:
    assert text_of(value) == text


def test_maps_are_shown_as_json() -> None:
    pair = KeyValue(key="k", value=AnyValue(string_value="v"))
    assert '"k"' in text_of(AnyValue(kvlist_value=KeyValueList(values=[pair])))


def test_all_of_a_span_is_shown() -> None:
    span = Span(
        trace_id=b"t" * 16,
        span_id=b"\x01" * 8,
        parent_span_id=b"\x02" * 8,
        name="send outbox",
        kind=Span.SPAN_KIND_PRODUCER,
        start_time_unix_nano=1_000_000_000,
        end_time_unix_nano=3_500_000_000,
        status=Status(code=Status.STATUS_CODE_ERROR, message="away"),
        links=[Span.Link(trace_id=b"\xaa" * 16)],
        events=[Span.Event(name="retried", time_unix_nano=2_000_000_000)],
    )
    shown = show(span, "delivery")
    assert (shown.span_id, shown.parent_id) == ("01" * 8, "02" * 8)
    assert (shown.name, shown.service, shown.kind) == ("send outbox", "delivery", pb.SPAN_KIND_PRODUCER)
    assert (shown.started_at.seconds, shown.duration.seconds, shown.duration.nanos) == (1, 2, 500_000_000)
    assert (shown.status, shown.status_message) == (pb.SPAN_STATUS_ERROR, "away")
    assert list(shown.linked_trace_ids) == ["aa" * 16]
    assert (shown.events[0].name, shown.events[0].at.seconds) == ("retried", 2)
