"""Tracing of a process: which traces are recorded, and where spans go."""

import asyncio
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import grpc
from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased

from parley_client.tokens import TokenSource
from services.runtime.settings import Settings
from services.runtime.tracing.backends import EXPORT, to_grpc, to_http, to_telemetry
from services.runtime.tracing.export import Batch, Handover, Outbound, Send
from services.runtime.tracing.sampling import Cap, RateCapped
from services.runtime.version import version

_CHANNEL = (("grpc.max_reconnect_backoff_ms", 5000), ("grpc.use_local_subchannel_pool", 1))

UNKNOWN_PER_SECOND = 2.0
"""New traces of callers without a valid token that are recorded in a second at most."""
LONGEST_VALUE = 16_384
"""Characters of an attribute that are kept, unless OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT says otherwise."""


class Signal(NamedTuple):
    """What is sent by OTLP: the method that takes it by gRPC, and the path that takes it by HTTP."""

    method: str
    path: str


TRACES = Signal(EXPORT, "/v1/traces")
METRICS = Signal("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/v1/metrics")


class Tracing:
    """The process's provider of tracers, and the backends that get its spans. Made by `start`."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._backends: list[Outbound] = []
        self._channels: list[grpc.aio.Channel] = []

    def send(self, backends: dict[str, tuple[Send, grpc.aio.Channel | None]], delay: int) -> None:
        """Sends spans to all of these. Spans wait up to `delay` milliseconds for one another."""
        for name, (send, channel) in backends.items():
            self._backends.append(Outbound(name, send))
            if channel is not None:
                self._channels.append(channel)
        if backends:
            processor = BatchSpanProcessor(Handover(self._offer), schedule_delay_millis=delay)
            self.provider.add_span_processor(processor)

    def _offer(self, batch: Batch) -> None:
        for backend in self._backends:
            backend.offer(batch)

    async def close(self) -> None:
        """Sends what waits, for a moment at most."""
        await asyncio.to_thread(self.provider.shutdown)  # it waits for its thread, which gives its spans to this loop
        for backend in self._backends:
            await backend.close()
        for channel in self._channels:
            await channel.close()


def start(name: str, settings: Settings, tokens: TokenSource) -> Tracing:
    """Begins to trace this process: to our telemetry service, to an OTLP endpoint, to both, or not at all.

    The telemetry service does not trace itself. What the SDK reads of the environment (resource, limits, batches) is
    honoured.
    """
    backends: dict[str, tuple[Send, grpc.aio.Channel | None]] = {}
    if settings.telemetry_address and name != "telemetry":
        channel = grpc.aio.insecure_channel(settings.telemetry_address, _CHANNEL)
        backends["telemetry"] = to_telemetry(channel, tokens), channel
    if settings.otlp_endpoint:
        backends[settings.otlp_endpoint] = otlp(settings, TRACES)
    ratio = settings.trace_ratio if backends else 0.0
    known = Cap(ratio, settings.traces_per_second)
    unknown = Cap(ratio, min(settings.traces_per_second or UNKNOWN_PER_SECOND, UNKNOWN_PER_SECOND))
    provider = TracerProvider(
        ParentBased(RateCapped(known, unknown)), resource_of(name), shutdown_on_exit=False, span_limits=limits()
    )
    tracing = Tracing(provider)
    tracing.send(backends, settings.span_delay_ms)
    trace.set_tracer_provider(provider)
    return tracing


def resource_of(name: str) -> Resource:
    """Describes a process. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME override what we say."""
    ours = {"service.name": name, "service.namespace": "parley", "service.version": version()}
    return Resource.create(ours | dict(OTELResourceDetector().detect().attributes or {}))


def limits() -> SpanLimits:
    """Returns the SDK's limits of a span, and a limit for the length of values, for which the SDK has no default."""
    given = OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT in os.environ
    return SpanLimits(max_attribute_length=None if given else LONGEST_VALUE)


def otlp(settings: Settings, signal: Signal) -> tuple[Send, grpc.aio.Channel | None]:
    """Returns the way to the endpoint that OpenTelemetry's own variables name."""
    endpoint = settings.otlp_endpoint
    headers = parse_headers(settings.otlp_headers)
    if settings.otlp_protocol.startswith("http"):
        return to_http(endpoint.rstrip("/") + signal.path, headers), None
    address = urlsplit(endpoint).netloc or endpoint
    if endpoint.startswith("https://"):
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _CHANNEL)
    else:
        channel = grpc.aio.insecure_channel(address, _CHANNEL)
    return to_grpc(channel, headers, signal.method), channel


def parse_headers(text: str) -> dict[str, str]:
    """`key=value,key=value`, values percent-encoded, as in `OTEL_EXPORTER_OTLP_HEADERS`."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
