"""Spans in the wire format of OTLP (`opentelemetry/proto/trace/v1/trace.proto`).

Written out by hand, because a message's trace has some twenty spans: through the generated classes one span takes
about 50 microseconds, so about 5. A test reads every kind of span back with the generated classes.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.trace import SpanContext

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VALUE = 4096
"""Characters of an attribute that are kept."""
_CACHED = 96
"""Longest attribute value that may come again, and is worth remembering encoded."""

_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200

_TIMES = struct.Struct("<BQBQ")
_double = struct.Struct("<d").pack
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack


def _tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte."""
    if value < 0x80:
        return value.to_bytes(1)
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def delimited(tag: bytes, content: bytes) -> bytes:
    """A field whose content has a length."""
    return tag + varint(len(content)) + content


_TRACE_ID = _tag(1, _BYTES) + varint(16)
_SPAN_ID = _tag(2, _BYTES) + varint(8)
_STATE = _tag(3, _BYTES)
_PARENT_ID = _tag(4, _BYTES) + varint(8)
_NAME = _tag(5, _BYTES)
_KIND = [_tag(6, _VARINT) + varint(kind + 1) for kind in range(5)]
_STARTED, _ENDED = _tag(7, _FIXED64)[0], _tag(8, _FIXED64)[0]
_ATTRIBUTE = _tag(9, _BYTES)
_EVENT = _tag(11, _BYTES)
_LINK = _tag(13, _BYTES)
_STATUS = _tag(15, _BYTES)
_FLAGS = _tag(16, _FIXED32)
_LOCAL = _FLAGS + _fixed32(_HAS_IS_REMOTE)
_REMOTE = _FLAGS + _fixed32(_HAS_IS_REMOTE | _IS_REMOTE)

Event = tuple[str, int, Mapping[str, Any]]
"""Name, nanoseconds since 1970, attributes."""
Link = tuple[SpanContext, Mapping[str, Any]]


def encode_span(
    context: SpanContext,
    parent: SpanContext | None,
    name: str,
    kind: int,
    started: int,
    ended: int,
    attributes: Mapping[str, Any],
    events: Sequence[Event],
    links: Sequence[Link],
    status: int,
    message: str,
) -> bytes:
    """A `Span`. Times are in nanoseconds since 1970; `kind` and `status` are the numbers of OpenTelemetry's API."""
    trace_id, span_id, _, _, state, _ = context
    parts = [_TRACE_ID, trace_id.to_bytes(16), _SPAN_ID, span_id.to_bytes(8)]
    if parent is None:
        parts.append(_LOCAL)
    else:
        parts += (_PARENT_ID, parent[1].to_bytes(8), _REMOTE if parent[2] else _LOCAL)
    if state:
        parts.append(delimited(_STATE, state.to_header().encode()))
    parts += (_text(_NAME, name), _KIND[kind], _TIMES.pack(_STARTED, started, _ENDED, ended))
    for key, value in attributes.items():
        parts.append(_attribute(_ATTRIBUTE, key, value))
    for event in events:
        parts.append(delimited(_EVENT, _encode_event(*event)))
    for link in links:
        parts.append(delimited(_LINK, _encode_link(*link)))
    if status:
        parts.append(_encode_status(status, message))
    return b"".join(parts)


def encode_export(head: bytes, spans: Iterable[bytes]) -> bytes:
    """An `ExportTraceServiceRequest` of encoded spans; `head` is of `encode_head`."""
    scope_spans = _SCOPE + b"".join([delimited(_SPANS, span) for span in spans])
    return delimited(_RESOURCE_SPANS, head + delimited(_SCOPE_SPANS, scope_spans))


def encode_head(resource: Mapping[str, Any]) -> bytes:
    """The `Resource` that all spans of a process share, as the first field of `ResourceSpans`."""
    return delimited(_FIRST, b"".join(_attribute(_FIRST, key, value) for key, value in resource.items()))


_FIRST, _SCOPE_SPANS, _SPANS = _tag(1, _BYTES), _tag(2, _BYTES), _tag(2, _BYTES)
_RESOURCE_SPANS = _FIRST
_SCOPE = delimited(_FIRST, delimited(_FIRST, b"parley"))


@lru_cache(1024)
def _text(tag: bytes, text: str) -> bytes:
    return delimited(tag, text.encode(errors="replace"))


def _attribute(tag: bytes, key: str, value: Any) -> bytes:
    if type(value) is str:
        return (_short if len(value) <= _CACHED else _string)(tag, key, value)
    return delimited(tag, _text(_FIRST, key) + delimited(_VALUE, _encode_value(value)))


def _string(tag: bytes, key: str, value: str) -> bytes:
    text = delimited(_FIRST, value[:_LONGEST_VALUE].encode(errors="replace"))
    return delimited(tag, _text(_FIRST, key) + delimited(_VALUE, text))


_short = lru_cache(4096)(_string)
_VALUE = _tag(2, _BYTES)
_BOOL, _INT, _DOUBLE, _ARRAY, _RAW = _tag(2, 0), _tag(3, 0), _tag(4, 1), _tag(5, 2), _tag(7, 2)
_U64 = (1 << 64) - 1


def _encode_value(value: Any) -> bytes:
    """An `AnyValue`."""
    match value:
        case str():
            return delimited(_FIRST, value[:_LONGEST_VALUE].encode(errors="replace"))
        case bool():
            return _BOOL + varint(value)
        case int():
            return _INT + varint(value & _U64)
        case float():
            return _DOUBLE + _double(value)
        case bytes():
            return delimited(_RAW, value[:_LONGEST_VALUE])
        case [*items]:
            return delimited(_ARRAY, b"".join(delimited(_FIRST, _encode_value(item)) for item in items))
    return delimited(_FIRST, str(value)[:_LONGEST_VALUE].encode(errors="replace"))


def _encode_event(name: str, at: int, attributes: Mapping[str, Any]) -> bytes:
    parts = [_tag(1, _FIXED64), _fixed64(at), _text(_tag(2, _BYTES), name)]
    parts += [_attribute(_tag(3, _BYTES), key, value) for key, value in attributes.items()]
    return b"".join(parts)


def _encode_link(context: SpanContext, attributes: Mapping[str, Any]) -> bytes:
    parts = [_TRACE_ID, context.trace_id.to_bytes(16), _SPAN_ID, context.span_id.to_bytes(8)]
    parts += [_attribute(_tag(4, _BYTES), key, value) for key, value in attributes.items()]
    return b"".join(parts)


def _encode_status(status: int, message: str) -> bytes:
    text = delimited(_tag(2, _BYTES), message[:_LONGEST_VALUE].encode(errors="replace")) if message else b""
    return delimited(_STATUS, text + _tag(3, _VARINT) + varint(status))
