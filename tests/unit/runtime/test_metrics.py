"""OPS-4: instruments are read when somebody asks who may, and what cannot be read hides nothing else."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from deploy.local.metrics import Gathered, merged
from services.runtime import background
from services.runtime.keys import Keys, ServiceTokens, ensure_keys
from services.runtime.metrics import Counter, Gauge, Metrics, Times
from services.runtime.metrics.export import Measuring
from services.runtime.metrics.page import AUDIENCE
from services.runtime.settings import Settings

ROOMS = Gauge("test.rooms", "{room}", "Rooms.")
GUESTS = Counter("test.guests", "{guest}", "Guests, by `kind`.", "kind")
STAYS = Counter("test.stays.within", "{stay}", "Stays of at most `le` seconds.", "le")
PAGE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return ensure_keys(tmp_path / "keys")


@pytest.fixture
def measuring(tmp_path: Path, keys: Keys) -> Callable[..., Measuring]:
    def make(name: str, **settings: Any) -> Measuring:
        return Measuring(name, Settings(home=tmp_path, **settings), keys)

    return make


def values(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, object], object]]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [
            (dict(point.attributes or {}), getattr(point, "value", None)) for point in metric.data.data_points
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_numbers_are_read_when_somebody_asks() -> None:
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    rooms, guests = [3], {"adult": 1, "child": 2}
    metrics.watch(ROOMS, lambda: rooms[0])
    metrics.watch(GUESTS, lambda: guests)
    rooms[0] = 4
    found = values(reader)
    assert found["test.rooms"] == [({}, 4)]
    assert found["test.guests"] == [({"kind": "adult"}, 1), ({"kind": "child"}, 2)]


def test_times_are_counted_by_bounds() -> None:
    times = Times()
    for seconds in (0.01, 0.02, 3.0, 61.0, -1.0):
        times.add(seconds)
    read = times.read()
    assert list(read) == [*map(str, Times.BOUNDS), "+Inf"]
    assert (read["0.01"], read["0.025"], read["2.0"], read["3.0"], read["60.0"], read["+Inf"]) == (2, 3, 3, 4, 4, 5)


async def test_what_only_a_store_knows_is_asked_once_for_many_readers() -> None:
    asked: list[int] = []

    async def ask() -> None:
        asked.append(1)

    async def fail() -> None:
        raise OSError("the store is away")

    metrics = Metrics()
    metrics.ask_first(fail)
    metrics.ask_first(ask)
    with capture_logs() as logged:
        for _ in range(3):
            await metrics.refresh()
    assert len(asked) == 1
    assert [entry["event"] for entry in logged] == ["a metric could not be read"]


async def page(address: tuple[str, int], request: bytes) -> str:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    try:
        return (await asyncio.wait_for(reader.read(), 30)).decode()
    finally:
        writer.close()


def with_token(token: str) -> bytes:
    return PAGE + b"authorization: Bearer " + token.encode() + b"\r\n\r\n"


def address_in(logged: list[Any]) -> tuple[str, int]:
    """Where a process said that its metrics are."""
    url = next(entry["address"] for entry in logged if entry["event"] == "metrics")
    host, _, port = url.removeprefix("http://").removesuffix("/metrics").partition(":")
    return host, int(port)


async def test_a_process_shows_its_metrics_and_the_stack_those_of_all(
    measuring: Callable[..., Measuring], keys: Keys
) -> None:
    with capture_logs() as logged:
        async with measuring("dialog", metrics_port=0) as one:
            first = address_in(logged)
            logged.clear()
            async with measuring("edge", metrics_port=0) as two:
                second = address_in(logged)
                times = Times()
                one.watch(ROOMS, lambda: 3)
                two.watch(ROOMS, lambda: 5)
                two.watch(STAYS, times.read)
                times.add(0.2)
                tokens = ServiceTokens("operator", keys)
                shown = await page(second, with_token(tokens.token(AUDIENCE)))
                assert shown.startswith("HTTP/1.1 200 OK")
                assert 'test_rooms{service_name="edge"} 5.0' in shown
                assert 'test_stays_within_total{le="0.25",service_name="edge"} 1.0' in shown
                assert 'parley_process_cpu_seconds_total{service_name="edge"}' in shown
                pages = {"dialog": first, "edge": second, "limits": ("127.0.0.1", 9)}
                whole = (await Gathered(pages, tokens).text()).decode()
    for line in (
        'test_rooms{service_name="dialog"} 3.0',
        'test_rooms{service_name="edge"} 5.0',
        'parley_up{service_name="dialog"} 1.0',
        'parley_up{service_name="limits"} 0.0',
    ):
        assert line in whole
    assert whole.count("# TYPE test_rooms gauge") == 1
    assert whole.index('test_rooms{service_name="edge"}') - whole.index('test_rooms{service_name="dialog"}') < 60


async def test_only_who_shows_a_token_for_metrics_and_all_tenants_sees_them(
    measuring: Callable[..., Measuring], keys: Keys
) -> None:
    """SEC-1."""
    with capture_logs() as logged:
        async with measuring("dialog", metrics_port=0):
            address = address_in(logged)
            refused = (
                PAGE + b"\r\n",
                PAGE + b"authorization: Basic eA==\r\n\r\n",
                with_token("x"),
                with_token(ServiceTokens("operator", keys).token("dialog")),
                with_token(ServiceTokens("integration", keys, tenants=["shop"]).token(AUDIENCE)),
            )
            for request in refused:
                answer = await page(address, request)
                assert answer.startswith("HTTP/1.1 401") and "parley_process" not in answer
            good = with_token(ServiceTokens("operator", keys).token(AUDIENCE))
            assert (await page(address, good)).startswith("HTTP/1.1 200")
            assert (await page(address, good.replace(b"/metrics", b"/"))).startswith("HTTP/1.1 404")
            assert (await page(address, good.replace(b"GET", b"POST"))).startswith("HTTP/1.1 405")


async def test_a_request_that_is_too_long_holds_up_nobody(measuring: Callable[..., Measuring], keys: Keys) -> None:
    with capture_logs() as logged:
        async with measuring("dialog", metrics_port=0):
            address = address_in(logged)
            assert await page(address, b"GET /" + b"x" * 20_000) == ""
            assert "200 OK" in await page(address, with_token(ServiceTokens("operator", keys).token(AUDIENCE)))


async def test_a_port_that_is_taken_costs_the_metrics_and_not_the_service(measuring: Callable[..., Measuring]) -> None:
    with capture_logs() as logged:
        async with measuring("dialog", metrics_port=0):
            _, port = address_in(logged)
            async with measuring("edge", metrics_port=port):
                pass
    assert "the port of the metrics is taken: nothing is shown" in [entry["event"] for entry in logged]


class Collector(MetricsServiceServicer):
    def __init__(self) -> None:
        self.names: set[str] = set()

    async def Export(self, request: Any, context: object) -> ExportMetricsServiceResponse:
        for resource in request.resource_metrics:
            self.names |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
        return ExportMetricsServiceResponse()


async def test_an_otlp_endpoint_gets_them(measuring: Callable[..., Measuring], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_WITHIN", 0.01)
    server, collector = grpc.aio.server(), Collector()
    serve_collector: Any = add_MetricsServiceServicer_to_server
    serve_collector(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with measuring("edge", otlp_endpoint=f"http://127.0.0.1:{port}", metric_interval_ms=50) as metrics:
            metrics.watch(ROOMS, lambda: 3)
            async with asyncio.timeout(60):
                while ROOMS.name not in collector.names:
                    await asyncio.sleep(0.05)
    finally:
        await server.stop(None)


def test_somebody_elses_answer_is_none() -> None:
    assert 'parley_up{service_name="one"} 0.0' in merged({"one": "<html>hello</html>"})


async def test_without_a_port_nothing_is_measured(measuring: Callable[..., Measuring]) -> None:
    with capture_logs() as logged:
        async with measuring("dialog") as metrics:
            metrics.watch(ROOMS, lambda: pytest.fail("nobody asks"))
    assert logged == []
