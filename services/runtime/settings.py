"""Settings that every service has, from `PARLEY_...` in the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`PARLEY_...`. A service adds its own in a subclass; only `wiring` reads them."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", populate_by_name=True, extra="ignore", frozen=True)

    home: Path = Path(".parley")
    """Folder of the local stack's state."""
    keys_dir: Path = Field(default_factory=lambda values: values["home"] / "keys")
    """Folder of the keys; `keys` in `home` when not set."""
    database_url: str = ""
    """PostgreSQL, for example `postgresql://user@host/parley` or `postgresql://user@/parley?host=/run/folder`."""
    redis_url: str = ""
    """Redis 6.2 or newer, or Valkey, for example `redis://host:6379/0` or `unix:///run/folder/redis.sock`. A cluster is
    `redis+cluster://user:password@one:6379,two:6379` (`rediss+cluster://` with TLS), with some of its nodes."""
    redis_prefix: str = "parley"
    """Begins every key and topic in Redis, so that several stacks can share one."""
    postgres_pool_size: int = Field(default=6, ge=1)
    """Connections to PostgreSQL that one process opens at most."""
    postgres_read_pool_size: int = Field(default=2, ge=1)
    """Further connections, for what operators read: lists, counts."""
    postgres_read_seconds: float = Field(default=3.0, gt=0)
    """How long such a read may take before PostgreSQL stops it."""
    retention_messages_days: int = Field(default=400, ge=0)
    """Days for which messages, their answers and ends of dialogs are kept; 0 for ever. A tenant may say otherwise."""
    retention_journal_days: int = Field(default=30, ge=0)
    """Days for which calls of models and tools are kept; 0 for ever. A tenant may say otherwise."""
    retention_deliveries_days: int = Field(default=90, ge=0)
    """Days for which deliveries are kept; 0 for ever. A tenant may say otherwise."""
    retention_orders_days: int = Field(default=0, ge=0)
    """Days for which orders are kept; 0 for ever. A tenant may say otherwise."""
    telemetry_days: int = Field(default=7, ge=1)
    """Days for which every trace is kept. A tenant may have its own go earlier."""
    retention_every_seconds: float = Field(default=3600.0, gt=0)
    """Time between two looks for what is older than it is to be kept."""

    host: str = "127.0.0.1"
    """Address on which servers listen."""
    context_address: str = "127.0.0.1:50051"
    """Where the context service answers."""
    dialog_address: str = "127.0.0.1:50052"
    """Where the dialog service answers."""
    limits_address: str = "127.0.0.1:50053"
    """Where the limits service answers."""
    delivery_address: str = "127.0.0.1:50054"
    """Where the delivery service answers."""
    egress_allow: str = ""
    """Networks that channels may lead to although they are not public, and over plain http too: `loopback`, `private`
    and networks such as `10.1.0.0/16`, with commas between. Public addresses are reached over https only."""
    telemetry_address: str = ""
    """Where spans are sent; empty for nowhere."""
    otlp_endpoint: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """A further OTLP endpoint that gets the spans too, for example `http://127.0.0.1:4317`."""
    otlp_protocol: str = Field(default="grpc", validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL")
    """`grpc` or `http/protobuf`: what that endpoint speaks."""
    otlp_headers: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_HEADERS")
    """Headers for that endpoint, as `key=value,key=value`."""
    metrics_exporter: str = Field(default="otlp", validation_alias="OTEL_METRICS_EXPORTER")
    """`otlp` sends metrics to that endpoint too, where there is one; `none` sends none."""
    metric_interval_ms: int = Field(default=60_000, gt=0, validation_alias="OTEL_METRIC_EXPORT_INTERVAL")
    """Milliseconds between two exports of metrics."""
    metrics_port: int = Field(default=-1, ge=-1, le=65_535)
    """Where this process shows its metrics to Prometheus: `http://<host>:<port>/metrics`, to those who show a bearer
    token for `metrics`. 0 takes any free port, -1 shows nothing. The local stack shows the metrics of all of its
    processes on one such page (9464 by default)."""

    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_message_text: bool = False
    """Whether dialog's logs and spans hold the text of messages and replies, each cut off after 2,000 characters."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of new traces that are recorded."""
    traces_per_second: float = Field(default=50.0, ge=0)
    """New traces that one process records in a second at most; 0 for no such cap."""
    span_delay_ms: int = Field(default=1000, gt=0, validation_alias="OTEL_BSP_SCHEDULE_DELAY")
    """Milliseconds for which ended spans wait for one another before they are sent. OpenTelemetry's SDK reads its
    other variables itself: resource (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`), limits (`OTEL_SPAN_...`),
    batches (`OTEL_BSP_...`), and `OTEL_SDK_DISABLED`."""

    default_deadline_seconds: float = Field(default=10.0, gt=0)
    """Deadline of a unary call that comes without one."""
    drain_seconds: float = Field(default=10.0, ge=0)
    """How long a stopping process lets its calls and its background work finish."""
    check_seconds: float = Field(default=5.0, gt=0)
    """Time between two checks of what a service needs; they drive its health."""

    def address_of(self, service: str) -> str:
        """Where a service answers, as `host:port`."""
        return str(getattr(self, f"{service}_address"))

    def port_of(self, service: str) -> int:
        """Where this process listens; 0 for any free port. Each service's settings have `<service>_port`."""
        return int(getattr(self, f"{service}_port", 0))
