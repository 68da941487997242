"""Where a process's metrics go: to a page for Prometheus, to an OTLP endpoint, to both, or nowhere."""

import asyncio

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from prometheus_client import CollectorRegistry, generate_latest

from services.runtime.background import finish, periodic
from services.runtime.keys import Keys
from services.runtime.logs import get_logger
from services.runtime.metrics.instruments import Metrics, watch_process
from services.runtime.metrics.page import AUDIENCE, Page
from services.runtime.settings import Settings
from services.runtime.tracing.provider import METRICS, otlp, resource_of
from services.runtime.verifier import Verifier

log = get_logger(__name__)

LAST_PUSH = 1.0
"""Seconds for which a stopping process waits for a push that is under way."""


class Measuring:
    """The metrics of this process, and the ways out that its settings name. `async with` opens and closes them."""

    def __init__(self, name: str, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._page = Page(self._text, Verifier(keys, AUDIENCE))
        self._reader = InMemoryMetricReader() if pushes(settings) else None
        self._stop = asyncio.Event()
        self.metrics = Metrics()
        readers: list[MetricReader] = [self._reader] if self._reader else []
        if settings.metrics_port >= 0:
            prometheus = PrometheusMetricReader(
                disable_target_info=True,
                scope_info_enabled=False,
                resource_attribute_filter=lambda key: key == "service.name",
                registry=self._registry,
            )
            readers.append(prometheus)
        if readers:
            provider = MeterProvider(readers, resource_of(name), shutdown_on_exit=False)
            self.metrics = Metrics(provider.get_meter("parley"))
            watch_process(self.metrics)

    async def __aenter__(self) -> Metrics:
        host, port = self._settings.host, self._settings.metrics_port
        if port >= 0:
            try:
                port = await self._page.listen(host, port)
                log.info("metrics", address=f"http://{host}:{port}/metrics")
            except OSError as error:  # the service is worth more than its numbers
                log.error("the port of the metrics is taken: nothing is shown", port=port, error=error.strerror)
        if self._reader is not None:
            send, self._channel = otlp(self._settings, METRICS)
            reader = self._reader

            async def push() -> None:
                await self.metrics.refresh()
                data = reader.get_metrics_data()
                if data is not None:
                    await send(encode_metrics(data).SerializeToString())

            pushing = periodic("metrics by OTLP", push, every=self._settings.metric_interval_ms / 1000)
            self._pushing = asyncio.create_task(pushing(self._stop), name=pushing.name)
        return self.metrics

    async def __aexit__(self, *_: object) -> None:
        self._page.close()
        self._stop.set()
        if self._reader is not None:
            await finish([self._pushing], LAST_PUSH)
            if self._channel is not None:
                await self._channel.close()

    async def _text(self) -> bytes:
        await self.metrics.refresh()
        return generate_latest(self._registry)


def pushes(settings: Settings) -> bool:
    """Whether metrics are sent to the OTLP endpoint."""
    return bool(settings.otlp_endpoint) and settings.metrics_exporter == "otlp"
