"""Gathers spans by trace, so that a trace becomes one row.

This is the hot path. It looks at five fields of a span, keeps the span's bytes as they are, and makes no Python objects
of its attributes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.telemetry.domain.otlp import TENANT, attribute, moment, stored_text, tenant_of, traces_data
from services.telemetry.domain.traces import Piece

_TENANT_BYTES = TENANT.encode()
_ERROR = Status.STATUS_CODE_ERROR
PER_SPAN, PER_TRACE = 64, 900
"""Bytes of memory that a span and a trace take besides their own bytes. Without counting these, a flood of tiny spans
could take thirty times the bound."""


class Gathered:
    """The spans of one trace that have come so far, from our services or from those of one tenant."""

    __slots__ = (
        "ended",
        "first",
        "has_error",
        "last",
        "name",
        "outside",
        "scopes",
        "size",
        "span_count",
        "started",
        "tenants",
    )

    def __init__(self, now: float, owner: str = "") -> None:
        """`owner` is the tenant whose own services sent it; empty for ours."""
        self.first = self.last = now
        self.outside = bool(owner)
        self.tenants = {owner} if owner else set()
        self.name = ""
        self.started, self.ended = 1 << 64, 0
        self.size = PER_TRACE
        self.span_count = 0
        self.has_error = False
        self.scopes: dict[tuple[str, str], list[bytes]] = {}
        """Serialised spans by the tenant that they name (or empty) and their service."""

    def add(self, span: Any, raw: bytes, service: str, tenant_id: str, now: float) -> None:
        """Takes in a span, whose serialised form is `raw`. `tenant_id` is the one that it names, or empty."""
        self.last = now
        self.span_count += 1
        self.size += PER_SPAN + len(raw)
        started, ended = span.start_time_unix_nano, span.end_time_unix_nano
        if started < self.started:
            self.started = started
        if ended > self.ended:
            self.ended = ended
        if tenant_id:
            self.tenants.add(tenant_id)
        if not span.parent_span_id:
            self.name = span.name
        if not self.has_error and span.status.code == _ERROR:
            self.has_error = True
        key = (tenant_id, service)
        spans = self.scopes.get(key)
        if spans is None:
            self.scopes[key] = [raw]
        else:
            spans.append(raw)

    def pieces(self, trace_id: bytes) -> list[Piece]:
        """Returns the pieces to store: one, or one for each of several tenants and one for spans that name none."""
        if len(self.tenants) > 1:
            return [piece for part in self._parts() for piece in part.pieces(trace_id)]
        scopes: dict[str, list[bytes]] = {}
        for (_, service), spans in self.scopes.items():
            scopes.setdefault(service, []).extend(spans)
        piece = Piece(
            trace_id=trace_id,
            tenant_id=next(iter(self.tenants), ""),
            name=stored_text(self.name),
            started_at=moment(self.started),
            ended_at=moment(max(self.started, self.ended)),
            span_count=self.span_count,
            has_error=self.has_error,
            services=tuple(scopes),
            spans=traces_data(scopes, outside=self.outside),
            outside=self.outside,
        )
        return [piece]

    def _parts(self) -> "Iterable[Gathered]":
        """Splits the spans by the tenants that they name. Few traces are shared, so reading them again costs little."""
        parts: dict[str, Gathered] = {}
        for (tenant_id, service), spans in self.scopes.items():
            part = parts.setdefault(tenant_id, Gathered(self.first))
            for raw in spans:
                part.add(Span.FromString(raw), raw, service, tenant_id, self.last)
        return parts.values()


Key = tuple[bytes, str]
"""A trace id, and the tenant whose own service sent the spans; empty for a service of ours."""


class Gathering:
    """The traces that are coming in, within a bound of bytes."""

    def __init__(self, *, max_bytes: int, quiet: float, longest: float) -> None:
        """A trace is taken out `quiet` seconds after its last span, or `longest` seconds after its first."""
        self._max_bytes = max_bytes
        self._quiet = quiet
        self._longest = longest
        self._traces: dict[Key, Gathered] = {}
        self.bytes = 0
        self.spans = 0

    def has_room(self, size: int) -> bool:
        """Tells whether an export of `size` bytes may come in."""
        return self.bytes + size <= self._max_bytes

    def add(self, request: ExportTraceServiceRequest, now: float, tenants: frozenset[str] | None) -> int:
        """Takes in an export; returns how many spans were refused as malformed or of a tenant that is not the sender's.

        `tenants` are those that the sender may speak for; None means all, for a service of ours.
        """
        refused = 0
        for resource_spans in request.resource_spans:
            service = stored_text(attribute(resource_spans.resource.attributes, "service.name"))
            for scope in resource_spans.scope_spans:
                for span in scope.spans:
                    refused += not self._add(span, service, now, tenants)
        return refused

    def take(self, now: float, *, everything: bool = False) -> dict[Key, Gathered]:
        """Takes out the traces that seem complete, or everything."""
        if everything or self.bytes > self._max_bytes // 2:
            taken, self._traces = self._traces, {}
        else:
            taken = {
                key: each
                for key, each in self._traces.items()
                if now - each.last >= self._quiet or now - each.first >= self._longest
            }
            for key in taken:
                del self._traces[key]
        self.bytes -= sum(each.size for each in taken.values())
        self.spans -= sum(each.span_count for each in taken.values())
        return taken

    def of_trace(self, trace_id: bytes) -> list[Piece]:
        """Returns what is here of a trace."""
        return pieces_of(self._traces, trace_id)

    def _add(self, span: Any, service: str, now: float, tenants: frozenset[str] | None) -> bool:
        trace_id = span.trace_id
        if len(trace_id) != 16 or len(span.span_id) != 8:
            return False
        raw = span.SerializeToString()
        tenant_id = tenant_of(span) if _TENANT_BYTES in raw else ""
        owner = ""
        if tenants is not None:
            owner = tenant_id or (min(tenants) if len(tenants) == 1 else "")
            if owner not in tenants:
                return False
        key = (trace_id, owner)
        gathered = self._traces.get(key)
        if gathered is None:
            gathered = self._traces[key] = Gathered(now, owner)
            self.bytes += gathered.size
        before = gathered.size
        gathered.add(span, raw, service, tenant_id, now)
        self.bytes += gathered.size - before
        self.spans += 1
        return True


def pieces_of(traces: Mapping[Key, Gathered], trace_id: bytes) -> list[Piece]:
    """Returns the pieces of one trace."""
    return [piece for (found, _), each in traces.items() if found == trace_id for piece in each.pieces(trace_id)]


MOST_SPANS = 10_000
"""Spans of one export; exporters send some hundreds."""
MOST_SCOPES = 1_000
"""Resources, and scopes of all resources, of one export."""


def is_too_much(request: ExportTraceServiceRequest) -> bool:
    """Tells whether an export is too large to be read in one go, while everything else on the loop waits."""
    resources = request.resource_spans
    if len(resources) > MOST_SCOPES or sum(len(each.scope_spans) for each in resources) > MOST_SCOPES:
        return True
    return count(request) > MOST_SPANS


def count(request: ExportTraceServiceRequest) -> int:
    """Counts the spans of an export."""
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
