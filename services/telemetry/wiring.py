"""Composition root of the telemetry service."""

from datetime import timedelta
from pathlib import Path

from parley.telemetry.v1 import telemetry_pb2_grpc

from services.runtime.keys import ISSUERS, SERVICES
from services.runtime.periodic import periodic
from services.runtime.service import App, Runtime
from services.telemetry.domain import Retention
from services.telemetry.gathering import Gathering
from services.telemetry.postgres import PostgresStore
from services.telemetry.servicer import TRACE_SERVICE, TelemetryServicer, TraceServicer, add_trace_servicer
from services.telemetry.settings import TelemetrySettings
from services.telemetry.usecases import Sink, Traces, Upkeeper

UPKEEP = 600.0
"""Seconds between two looks at the daily partitions."""


async def build(runtime: Runtime, settings: TelemetrySettings) -> App:
    """Put the service together."""
    pool = await runtime.postgres("telemetry", Path(__file__).parent / "migrations")
    store = PostgresStore(pool)
    retention = Retention(
        settings.telemetry_days,
        settings.telemetry_important_days,
        timedelta(seconds=settings.telemetry_slow_seconds),
    )
    upkeeper = Upkeeper(store, retention, runtime.clock)
    gathering = Gathering(
        max_bytes=settings.telemetry_waiting_bytes,
        quiet=settings.telemetry_quiet_seconds,
        longest=settings.telemetry_longest_seconds,
    )
    sink = Sink(store, gathering, runtime.clock)

    async def postgres() -> None:
        await pool.fetchval("SELECT 1")

    return App(
        servicers=[
            (
                "parley.telemetry.v1.TelemetryService",
                telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server,
                TelemetryServicer(Traces(store, sink), sink),
            ),
            (TRACE_SERVICE, add_trace_servicer, TraceServicer(sink)),
        ],
        background=[sink.run, periodic("partitions", upkeeper.look, every=UPKEEP)],
        checks={"postgres": postgres},
        extra_access={f"/{TRACE_SERVICE}/Export": frozenset((*SERVICES, *ISSUERS))},
        extra_ports=[f"{settings.host}:{settings.otlp_port}"],
    )
