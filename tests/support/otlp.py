"""OTLP exports made by hand, for tests of what receives them."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class SpanMade:
    """A span to export; times in seconds since 1970."""

    trace_id: bytes
    name: str = "work"
    parent_id: bytes = b""
    span_id: bytes = field(default_factory=lambda: os.urandom(8))
    started: float = field(default_factory=time.time)
    seconds: float = 0.01
    tenant_id: str = ""
    failed: bool = False
    kind: Span.SpanKind.ValueType = Span.SPAN_KIND_SERVER
    attributes: Mapping[str, str] = field(default_factory=dict)


def new_trace_id() -> bytes:
    return os.urandom(16)


def export(spans: Iterable[SpanMade], service: str = "dialog") -> ExportTraceServiceRequest:
    """One service's export."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    for made in spans:
        span = scope.spans.add(
            trace_id=made.trace_id,
            span_id=made.span_id,
            parent_span_id=made.parent_id,
            name=made.name,
            kind=made.kind,
            start_time_unix_nano=int(made.started * 1e9),
            end_time_unix_nano=int((made.started + made.seconds) * 1e9),
            status=Status(code=Status.STATUS_CODE_ERROR if made.failed else Status.STATUS_CODE_UNSET),
        )
        tenant = {"parley.tenant_id": made.tenant_id} if made.tenant_id else {}
        for key, value in {**tenant, **made.attributes}.items():
            span.attributes.add(key=key).value.string_value = value
    return request
