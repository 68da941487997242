"""Serves the Export of OTLP, and the RPCs that read traces."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from parley.telemetry.v1 import telemetry_pb2 as pb
from parley.telemetry.v1 import telemetry_pb2_grpc

from services.kernel.errors import invalid_field, not_found
from services.runtime import pages
from services.runtime.auth import ALL, caller
from services.telemetry.convert import spans_of
from services.telemetry.domain.gathering import MOST_SPANS, is_too_much
from services.telemetry.domain.traces import Filters, Position, Summary
from services.telemetry.usecases import Sink, Traces

TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
DEFAULT_PAGE = 50


class TraceServicer:
    """Answers OTLP exporters at once, whether or not the database is there."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def export(self, request: bytes, context: Any) -> ExportTraceServiceResponse:
        try:
            export = ExportTraceServiceRequest.FromString(request)
        except DecodeError:
            raise invalid_field("resource_spans", "is not OTLP") from None
        if is_too_much(export):
            raise invalid_field("resource_spans", f"has more than {MOST_SPANS:,} spans; send fewer at a time")
        tenants = caller().tenants
        lost = self._sink.receive(export, len(request), None if tenants is ALL else tenants)
        response = ExportTraceServiceResponse()
        if lost:
            response.partial_success.rejected_spans = lost
            response.partial_success.error_message = "Too many spans wait, or some name a tenant that is not yours."
        return response


def add_trace_servicer(servicer: TraceServicer, server: grpc.aio.Server) -> None:
    """Adds Export with its request left as bytes, whose number bounds what may wait."""
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Export": grpc.unary_unary_rpc_method_handler(
            servicer.export, response_serializer=ExportTraceServiceResponse.SerializeToString
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(TRACE_SERVICE, dict(handlers)),))


class TelemetryServicer(telemetry_pb2_grpc.TelemetryServiceServicer):
    """Implements parley.telemetry.v1.TelemetryService."""

    def __init__(self, traces: Traces, sink: Sink) -> None:
        self._traces = traces
        self._sink = sink

    async def GetTrace(self, request: pb.GetTraceRequest, context: Any) -> pb.GetTraceResponse:
        spans = spans_of(await self._traces.get(bytes.fromhex(request.trace_id), request.tenant_id), request.tenant_id)
        if not spans:
            raise not_found("TRACE_NOT_FOUND", "trace", "trace_id", request.trace_id)
        return pb.GetTraceResponse(spans=spans)

    async def FindTraces(self, request: pb.FindTracesRequest, context: Any) -> pb.FindTracesResponse:
        filters = Filters(
            request.tenant_id,
            request.service,
            request.errors_only,
            timedelta(seconds=request.min_duration.seconds, microseconds=request.min_duration.nanos // 1000),
        )
        after = position_of(pages.decode(request.page_token, "FindTraces", filters))
        size = request.page_size or DEFAULT_PAGE
        found = await self._traces.find(filters, after, size + 1)
        response = pb.FindTracesResponse(traces=[show(each) for each in found[:size]])
        if len(found) > size:
            last = found[size - 1].position
            place = (last.started_at.isoformat(), last.trace_id.hex())
            response.next_page_token = pages.encode("FindTraces", filters, place)
        return response

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        counts = self._sink.counts
        return pb.GetStatsResponse(
            spans_received=counts.received,
            spans_stored=counts.stored,
            spans_waiting=self._sink.waiting,
            spans_dropped=counts.dropped,
            spans_refused=counts.refused,
        )


def position_of(place: list[str | int | float | None] | None) -> Position | None:
    """Returns the position that a page token holds."""
    if place is None:
        return None
    started_at, trace_id = place
    return Position(datetime.fromisoformat(str(started_at)), bytes.fromhex(str(trace_id)))


def show(summary: Summary) -> pb.TraceSummary:
    shown = pb.TraceSummary(
        trace_id=summary.position.trace_id.hex(),
        name=summary.name,
        span_count=summary.span_count,
        has_error=summary.has_error,
    )
    shown.started_at.FromDatetime(summary.started_at)
    shown.duration.FromTimedelta(summary.ended_at - summary.started_at)
    return shown
