"""Converts stored spans to the messages of the contract."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from parley.telemetry.v1 import telemetry_pb2 as pb

from services.telemetry.domain.otlp import is_outside, read, tenant_of
from services.telemetry.domain.traces import Piece

MAX_SPANS = 5000
"""The earliest spans of a trace are shown, at most this many: more would not fit into a message."""
MOST_READ = 4 * MAX_SPANS
"""The number of spans of one trace that are looked at."""


class _Found(NamedTuple):
    """A stored span. `owner` is the tenant whose own service sent it; empty for a service of ours."""

    span: OtlpSpan
    service: str
    owner: str


def spans_of(pieces: Iterable[Piece], tenant_id: str) -> list[pb.Span]:
    """Returns the spans of a trace that a tenant may see, by start time. A span that was sent twice is shown once."""
    mine: list[Piece] = []
    others: list[Piece] = []
    for piece in pieces:
        (mine if piece.tenant_id in ("", tenant_id) else others).append(piece)
    found = list(islice((each for piece in mine for each in _read(piece)), MOST_READ))
    ours = [each.span for each in found if not each.owner]
    tenants = _tenants(ours, shared=not all(piece.outside for piece in others))
    seen = {
        (each.owner, each.span.span_id): each
        for each in found
        if (each.owner or tenants[each.span.span_id]) == tenant_id
    }
    ordered = sorted(seen.values(), key=lambda each: each.span.start_time_unix_nano)
    return [show(each.span, each.service) for each in ordered[:MAX_SPANS]]


def _read(piece: Piece) -> Iterator[_Found]:
    for resource in read(piece.spans).resource_spans:
        service = resource.resource.attributes[0].value.string_value
        for scope in resource.scope_spans:
            owner = piece.tenant_id if is_outside(scope) else ""
            for span in scope.spans:
                yield _Found(span, service, owner)


def _tenants(spans: Sequence[OtlpSpan], *, shared: bool) -> Mapping[bytes, str]:
    """Returns the tenant of each span of our services: the one that it names, or that of the span around it. In a trace
    of one tenant every span is that tenant's. In a shared one, spans that belong to no tenant are shown to nobody."""
    named = {span.span_id: tenant_of(span) for span in spans}
    only = set(named.values()) - {""}
    if len(only) == 1 and not shared:
        return dict.fromkeys(named, *only)
    parents = {span.span_id: span.parent_span_id for span in spans}
    for span_id in list(named):
        way: set[bytes] = set()
        at = span_id
        while at in named and not named[at] and at not in way:
            way.add(at)
            at = parents[at]
        named.update(dict.fromkeys(way, named.get(at, "")))
    return named


def show(span: OtlpSpan, service: str) -> pb.Span:
    """Converts one span."""
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
    """Returns an attribute's value as text; lists and maps as JSON."""
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
