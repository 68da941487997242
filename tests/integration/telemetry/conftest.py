"""A telemetry service on a real PostgreSQL, and what it is sent and asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from parley.telemetry.v1 import telemetry_pb2 as pb

from parley_client.channel import Connection, connect
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import TokenSource
from services.runtime.service import Running, running
from services.telemetry.settings import TelemetrySettings
from services.telemetry.wiring import build

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class MovedClock:
    """Noon of today, moved as tests say: midnight is far away at any time of the day."""

    def __init__(self) -> None:
        self.noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
        self.moved = timedelta()

    def now(self) -> datetime:
        return self.noon + self.moved


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def service(make_settings: Callable[..., TelemetrySettings], clock: MovedClock) -> AsyncIterator[Running]:
    settings = make_settings(TelemetrySettings, otlp_port=0, telemetry_quiet_seconds=0, telemetry_waiting_bytes=20_000)
    async with running("telemetry", settings, build, clock=clock) as service:
        yield service


@pytest.fixture
async def connection(service: Running, operator_tokens: TokenSource) -> AsyncIterator[Connection]:
    async with connect(service.address, audience="telemetry", tokens=operator_tokens) as connection:
        yield connection


@pytest.fixture
def client(connection: Connection) -> TelemetryClient:
    return TelemetryClient(connection)


async def send(service: Running, tokens: TokenSource, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
    """Export as any OTLP exporter does."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = channel.unary_unary(
            EXPORT,
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {tokens.token('telemetry')}"),)
        response: ExportTraceServiceResponse = await call(request, metadata=metadata, timeout=60)
        return response


async def stored(client: TelemetryClient, spans: int) -> pb.GetStatsResponse:
    """Waits until so many spans are stored."""
    ends = monotonic() + 30
    while monotonic() < ends:
        stats = await client.get_stats(pb.GetStatsRequest())
        if stats.spans_stored >= spans:
            return stats
        await asyncio.sleep(0.05)
    raise AssertionError(f"only {stats.spans_stored} of {spans} spans were stored")


def get(trace_id: bytes, tenant_id: str = "demo") -> pb.GetTraceRequest:
    return pb.GetTraceRequest(tenant_id=tenant_id, trace_id=trace_id.hex())


@pytest.fixture
def edge(tokens_as: Callable[..., TokenSource]) -> TokenSource:
    return tokens_as("edge")
