"""Stored spans as the contract shows them."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from parley.telemetry.v1 import telemetry_pb2 as pb

from services.telemetry.domain import Piece
from services.telemetry.gathering import read

MAX_SPANS = 5000
"""Spans of one trace that are shown, the earliest: more would not fit into a message."""


def spans_of(pieces: Iterable[Piece]) -> list[pb.Span]:
    """The spans of a trace by start time. One that was sent twice is shown once."""
    found: dict[bytes, tuple[OtlpSpan, str]] = {}
    for piece in pieces:
        for resource in read(piece.spans).resource_spans:
            service = resource.resource.attributes[0].value.string_value
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.span_id] = (span, service)
    ordered = sorted(found.values(), key=lambda each: each[0].start_time_unix_nano)
    return [show(span, service) for span, service in ordered[:MAX_SPANS]]


def show(span: OtlpSpan, service: str) -> pb.Span:
    """One span."""
    shown = pb.Span(
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        service=service,
        kind=_KINDS.get(span.kind, pb.SPAN_KIND_UNSPECIFIED),
        status=_STATUSES.get(span.status.code, pb.SPAN_STATUS_UNSPECIFIED),
        status_message=span.status.message,
        attributes=_texts(span.attributes),
        linked_trace_ids=[link.trace_id.hex() for link in span.links],
        events=[_event(event) for event in span.events],
    )
    shown.started_at.FromNanoseconds(span.start_time_unix_nano)
    shown.duration.FromNanoseconds(max(0, span.end_time_unix_nano - span.start_time_unix_nano))
    return shown


def _event(event: OtlpSpan.Event) -> pb.SpanEvent:
    shown = pb.SpanEvent(name=event.name, attributes=_texts(event.attributes))
    shown.at.FromNanoseconds(event.time_unix_nano)
    return shown


def _texts(attributes: Any) -> dict[str, str]:
    return {attribute.key: text_of(attribute.value) for attribute in attributes}


def text_of(value: AnyValue) -> str:
    """An attribute's value as text; lists and maps as JSON."""
    match value.WhichOneof("value"):
        case None:
            return ""
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return f"{value.double_value:g}"
        case "bytes_value":
            return value.bytes_value.hex()
        case "array_value":
            return "[" + ", ".join(text_of(each) for each in value.array_value.values) + "]"
        case _:
            return json_format.MessageToJson(value, indent=None)


_KINDS = {
    OtlpSpan.SPAN_KIND_INTERNAL: pb.SPAN_KIND_INTERNAL,
    OtlpSpan.SPAN_KIND_SERVER: pb.SPAN_KIND_SERVER,
    OtlpSpan.SPAN_KIND_CLIENT: pb.SPAN_KIND_CLIENT,
    OtlpSpan.SPAN_KIND_PRODUCER: pb.SPAN_KIND_PRODUCER,
    OtlpSpan.SPAN_KIND_CONSUMER: pb.SPAN_KIND_CONSUMER,
}
_STATUSES = {1: pb.SPAN_STATUS_OK, 2: pb.SPAN_STATUS_ERROR}
