"""Tracing of a process: which traces are recorded, and where spans go."""

from urllib.parse import unquote, urlsplit

import grpc
from opentelemetry import trace

from parley_client.tokens import TokenSource
from services.runtime.settings import Settings
from services.runtime.tracing.export import Exporter, Send, to_grpc, to_http, to_telemetry
from services.runtime.tracing.otlp import encode_head
from services.runtime.tracing.sampling import Sampler
from services.runtime.tracing.spans import LeanProvider

_CHANNEL = (("grpc.max_reconnect_backoff_ms", 5000), ("grpc.use_local_subchannel_pool", 1))

PUBLIC_PER_SECOND = 2.0
"""New traces of callers without a valid token that are recorded in a second at most."""


class Telemetry:
    """The process's exporters. Made by `start`."""

    def __init__(self) -> None:
        self._exporters: list[Exporter] = []
        self._channels: list[grpc.aio.Channel] = []

    def offer(self, span: bytes) -> None:
        """Give an encoded span to every exporter."""
        for exporter in self._exporters:
            exporter.offer(span)

    def add(self, exporter: Exporter, channel: grpc.aio.Channel | None) -> None:
        """Send spans there too."""
        self._exporters.append(exporter)
        if channel is not None:
            self._channels.append(channel)

    async def close(self) -> None:
        """Send what waits; a moment at most."""
        for exporter in self._exporters:
            await exporter.close()
        for channel in self._channels:
            await channel.close()


def start(name: str, settings: Settings, tokens: TokenSource) -> Telemetry:
    """Begin to trace this process: to our telemetry service, to an OTLP endpoint, to both, or not at all.

    The telemetry service does not trace itself.
    """
    telemetry = Telemetry()
    head = encode_head({"service.name": name, "service.namespace": "parley"})
    if settings.telemetry_address and name != "telemetry":
        channel = grpc.aio.insecure_channel(settings.telemetry_address, _CHANNEL)
        telemetry.add(Exporter("telemetry", head, to_telemetry(channel, tokens)), channel)
    if settings.otlp_endpoint:
        send, other = _otlp(settings)
        telemetry.add(Exporter(settings.otlp_endpoint, head, send), other)
    ratio = settings.trace_ratio if telemetry._exporters else 0.0
    public = Sampler(ratio, min(settings.traces_per_second or PUBLIC_PER_SECOND, PUBLIC_PER_SECOND))
    trace.set_tracer_provider(LeanProvider(Sampler(ratio, settings.traces_per_second), telemetry.offer, public))
    return telemetry


def _otlp(settings: Settings) -> tuple[Send, grpc.aio.Channel | None]:
    """The way to the endpoint that OpenTelemetry's own variables name."""
    endpoint = settings.otlp_endpoint
    headers = parse_headers(settings.otlp_headers)
    if settings.otlp_protocol.startswith("http"):
        return to_http(endpoint.rstrip("/") + "/v1/traces", headers), None
    address = urlsplit(endpoint).netloc or endpoint
    if endpoint.startswith("https://"):
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _CHANNEL)
    else:
        channel = grpc.aio.insecure_channel(address, _CHANNEL)
    return to_grpc(channel, headers), channel


def parse_headers(text: str) -> dict[str, str]:
    """`key=value,key=value`, values percent-encoded, as in `OTEL_EXPORTER_OTLP_HEADERS`."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
