"""Settings of the telemetry service."""

from pydantic import Field

from services.runtime.settings import Settings


class TelemetrySettings(Settings):
    """`PARLEY_TELEMETRY_...`, besides those of every service."""

    telemetry_port: int = 50055
    """gRPC port; 0 for any free one."""
    otlp_port: int = 4317
    """Further port, the one where exporters look for an OTLP/gRPC collector; 0 for any free one."""
    postgres_pool_size: int = Field(default=3, ge=1)
    """Connections to PostgreSQL that one process opens at most: one writes, the others read."""
    telemetry_waiting_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Memory that spans which wait for PostgreSQL may take, in bytes; further ones are dropped."""
    telemetry_quiet_seconds: float = Field(default=2.0, ge=0)
    """A trace is stored when no span of it has come for so long."""
    telemetry_longest_seconds: float = Field(default=10.0, ge=0)
    """What has come of a trace is stored after so long, even when more is coming."""
    telemetry_important_days: int = Field(default=30, ge=1)
    """Days for which traces with an error, and slow ones, are kept, unless their tenant keeps none so long."""
    telemetry_slow_seconds: float = Field(default=10.0, gt=0)
    """A trace that took longer than this is slow."""
