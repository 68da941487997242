"""What we write is what the generated classes of OpenTelemetry read."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from services.runtime.tracing.otlp import encode_export, encode_head, encode_span

CONTEXT = SpanContext(0xAB << 100, 0xCD, is_remote=False, trace_flags=TraceFlags(1))
PARENT = SpanContext(0xAB << 100, 0xEF, is_remote=True, trace_flags=TraceFlags(1))

Value = st.one_of(
    st.text(max_size=300),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=300),
    st.lists(st.text(max_size=5), max_size=3),
)


def encoded(**changes: object) -> Span:
    values: dict[str, object] = {
        "context": CONTEXT,
        "parent": None,
        "name": "process inbox",
        "kind": SpanKind.CONSUMER.value,
        "started": 1_800_000_000_000_000_001,
        "ended": 1_800_000_000_000_000_002,
        "attributes": {},
        "events": (),
        "links": (),
        "status": 0,
        "message": "",
    }
    return Span.FromString(encode_span(**(values | changes)))  # type: ignore[arg-type]


def plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, str(kind))


def test_a_root_span_has_ids_times_and_no_parent() -> None:
    span = encoded()
    assert span.trace_id == CONTEXT.trace_id.to_bytes(16)
    assert (span.span_id, span.parent_span_id) == (CONTEXT.span_id.to_bytes(8), b"")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        1_800_000_000_000_000_001,
        1_800_000_000_000_000_002,
    )
    assert (span.name, span.kind) == ("process inbox", Span.SPAN_KIND_CONSUMER)
    assert not span.HasField("status")


def test_a_parent_in_another_process_is_told_from_one_in_this() -> None:
    remote = encoded(parent=PARENT)
    local = encoded(parent=CONTEXT)
    assert remote.parent_span_id == PARENT.span_id.to_bytes(8)
    assert (remote.flags, local.flags) == (0x300, 0x100)


def test_every_kind_of_span_is_named_right() -> None:
    for kind in SpanKind:
        assert Span.SpanKind.Name(encoded(kind=kind.value).kind) == f"SPAN_KIND_{kind.name}"


def test_a_failure_has_its_status_and_words() -> None:
    span = encoded(status=StatusCode.ERROR.value, message="не вышло")
    assert (span.status.code, span.status.message) == (2, "не вышло")
    assert encoded(status=StatusCode.OK.value).status.code == 1


def test_events_and_links_are_read_back() -> None:
    span = encoded(events=[("reset", 5, {"n": 1})], links=[(PARENT, {"why": "retry"})])
    assert (span.events[0].name, span.events[0].time_unix_nano) == ("reset", 5)
    assert plain(span.events[0].attributes[0].value) == 1
    assert (span.links[0].trace_id, span.links[0].span_id) == (PARENT.trace_id.to_bytes(16), PARENT.span_id.to_bytes(8))
    assert plain(span.links[0].attributes[0].value) == "retry"


def test_the_trace_state_is_kept() -> None:
    state = SpanContext(1, 2, is_remote=False, trace_state=TraceState([("vendor", "x")]))
    assert encoded(context=state).trace_state == "vendor=x"


@given(st.dictionaries(st.text(max_size=20), Value, max_size=6), st.text(max_size=300))
def test_attributes_and_names_are_read_back(attributes: dict[str, object], name: str) -> None:
    span = encoded(attributes=attributes, name=name)
    assert span.name == name
    assert {each.key: plain(each.value) for each in span.attributes} == attributes


def test_values_beyond_the_common_kinds_do_not_fail() -> None:
    span = encoded(attributes={"none": None, "odd": SpanKind.CLIENT, "long": "x" * 10_000, "half": "\ud800"})
    read = {each.key: plain(each.value) for each in span.attributes}
    assert read["none"] == "None"
    assert read["long"] == "x" * 4096
    assert read["half"] == "?"


def test_a_request_holds_the_resource_and_all_spans() -> None:
    spans = [encode_span(CONTEXT, None, f"span {i}", 1, 1, 2, {}, (), (), 0, "" if i else "x") for i in range(300)]
    request = ExportTraceServiceRequest.FromString(encode_export(encode_head({"service.name": "dialog"}), spans))
    (resource,) = request.resource_spans
    assert plain(resource.resource.attributes[0].value) == "dialog"
    assert [span.name for span in resource.scope_spans[0].spans] == [f"span {i}" for i in range(300)]
