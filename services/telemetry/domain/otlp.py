"""The stored form of spans: OTLP, with each span's bytes as they came."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

TENANT = "parley.tenant_id"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_TEXT = 256

_OUTSIDE = "outside"
_OUTSIDE_SCOPE = ScopeSpans(scope=InstrumentationScope(name=_OUTSIDE)).SerializeToString()


def traces_data(scopes: Mapping[str, list[bytes]], *, outside: bool = False) -> bytes:
    """Returns a serialised TracesData of serialised spans by service. `outside`: a tenant's own service sent them.

    The spans are put in place as they are, by the wire format: field 2 of ScopeSpans, a length, the bytes.
    """
    found = []
    for service, spans in scopes.items():
        resource = Resource()
        resource.attributes.add(key="service.name").value.string_value = service
        parts: list[bytes] = [_OUTSIDE_SCOPE] if outside else []
        for raw in spans:
            parts += (b"\x12", varint(len(raw)), raw)
        scope = b"".join(parts)
        content = ResourceSpans(resource=resource).SerializeToString() + b"\x12" + varint(len(scope)) + scope
        found += [b"\x0a", varint(len(content)), content]
    return b"".join(found)


def is_outside(scope: ScopeSpans) -> bool:
    """Tells whether a tenant's own service sent these spans. They belong to that tenant, whatever they say."""
    return scope.scope.name == _OUTSIDE


def tenant_of(span: Span) -> str:
    """Returns the tenant that a span names, or empty."""
    return stored_text(attribute(span.attributes, TENANT))


def read(spans: bytes) -> TracesData:
    """Reads the spans of a piece."""
    return TracesData.FromString(spans)


@lru_cache(maxsize=8192)
def varint(value: int) -> bytes:
    """Encodes a number as protobuf does."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def moment(nanoseconds: int) -> datetime:
    """Converts a time of OTLP, which is in the year 2554 at the latest."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def attribute(attributes: Any, key: str) -> str:
    """Returns a text among the attributes of a span or resource, or empty."""
    for attribute in attributes:
        if attribute.key == key:
            return str(attribute.value.string_value)
    return ""


def stored_text(text: str) -> str:
    """Returns what Postgres can store of a text, in a bounded length."""
    return text.replace("\x00", "")[:_LONGEST_TEXT]
