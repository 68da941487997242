"""Composition root of the telemetry service."""

from datetime import timedelta
from pathlib import Path

from parley.telemetry.v1 import telemetry_pb2_grpc

from services.runtime.background import periodic
from services.runtime.keys import ISSUERS, SERVICES
from services.runtime.retention import PAUSE, Retention
from services.runtime.service import App, Runtime
from services.runtime.tenant_retention import retention_of
from services.telemetry import metrics
from services.telemetry.domain.gathering import Gathering
from services.telemetry.domain.traces import DaysKept
from services.telemetry.postgres.retention import plan
from services.telemetry.postgres.store import PostgresStore
from services.telemetry.servicer import TRACE_SERVICE, TelemetryServicer, TraceServicer, add_trace_servicer
from services.telemetry.settings import TelemetrySettings
from services.telemetry.usecases import Sink, Traces, Upkeeper

UPKEEP = 600.0
"""Seconds between two looks at the daily partitions."""


async def build(runtime: Runtime, settings: TelemetrySettings) -> App:
    """Puts the service together."""
    pool = await runtime.postgres("telemetry", Path(__file__).parent / "migrations")
    store = PostgresStore(pool)
    kept = DaysKept(
        settings.telemetry_days,
        settings.telemetry_important_days,
        timedelta(seconds=settings.telemetry_slow_seconds),
    )
    upkeeper = Upkeeper(store, kept, runtime.clock)
    gathering = Gathering(
        max_bytes=settings.telemetry_waiting_bytes,
        quiet=settings.telemetry_quiet_seconds,
        longest=settings.telemetry_longest_seconds,
    )
    sink = Sink(store, gathering, runtime.clock)
    metrics.watch(runtime.metrics, sink)
    days_of = retention_of(runtime.connect("dialog"), lambda retention: retention.spans_days)
    retention = Retention(
        "telemetry", pool, runtime.clock, lambda now: plan(pool, days_of, settings.telemetry_days, now)
    )

    return App(
        servicers=[
            (
                "parley.telemetry.v1.TelemetryService",
                telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server,
                TelemetryServicer(Traces(store, sink), sink),
            ),
            (TRACE_SERVICE, add_trace_servicer, TraceServicer(sink)),
        ],
        background=[
            sink.run,
            periodic("partitions", upkeeper.look, every=UPKEEP),
            periodic("retention", retention.look, every=settings.retention_every_seconds, soon=PAUSE),
        ],
        checks={"postgres": lambda: pool.fetchval("SELECT 1")},
        extra_access={f"/{TRACE_SERVICE}/Export": frozenset((*SERVICES, *ISSUERS))},
        extra_ports=[f"{settings.host}:{settings.otlp_port}"],
    )
