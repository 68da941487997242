"""Spans that come in by OTLP, stored and read back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.telemetry.v1 import telemetry_pb2 as pb

from parley_client import errors
from parley_client.channel import connect
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import TokenSource
from services.runtime.service import Running, running
from services.telemetry.settings import TelemetrySettings
from services.telemetry.wiring import build
from tests.integration.telemetry.conftest import EXPORT, get, send, stored
from tests.support.otlp import SpanMade, export, new_trace_id


async def test_spans_that_go_in_come_out(service: Running, client: TelemetryClient, edge: TokenSource) -> None:
    trace_id = new_trace_id()
    root = SpanMade(trace_id, "POST /webhooks", tenant_id="demo", seconds=0.1)
    child = SpanMade(trace_id, "process inbox", parent_id=root.span_id, started=root.started + 0.01)
    await send(service, edge, export([root], "edge"))
    await send(service, edge, export([child], "dialog"))
    before = await client.get_trace(get(trace_id))
    await stored(client, 2)
    after = await client.get_trace(get(trace_id))
    assert before == after, "a trace can be read before it is stored"
    assert [(span.name, span.service) for span in after.spans] == [
        ("POST /webhooks", "edge"),
        ("process inbox", "dialog"),
    ]
    assert after.spans[1].parent_id == root.span_id.hex()


async def test_another_tenants_trace_is_not_there(
    service: Running, client: TelemetryClient, edge: TokenSource, tokens_as: Callable[..., TokenSource]
) -> None:
    trace_id = new_trace_id()
    await send(service, edge, export([SpanMade(trace_id, tenant_id="demo")]))
    await stored(client, 1)
    with pytest.raises(errors.NotFound) as caught:
        await client.get_trace(get(trace_id, "acme"))
    assert caught.value.reason == "TRACE_NOT_FOUND"
    async with connect(service.address, audience="telemetry", tokens=tokens_as("operator", ("acme",))) as other:
        with pytest.raises(errors.PermissionDenied):
            await TelemetryClient(other).get_trace(get(trace_id, "demo"))
        found = await TelemetryClient(other).find_traces(pb.FindTracesRequest(tenant_id="acme"))
    assert not found.traces


async def test_each_tenant_sees_its_own_part_of_a_shared_trace(
    service: Running, client: TelemetryClient, edge: TokenSource
) -> None:
    trace_id = new_trace_id()
    batch = SpanMade(trace_id, "batch", seconds=5)
    acme = SpanMade(trace_id, "acme's", parent_id=batch.span_id, tenant_id="acme")
    demo = SpanMade(trace_id, "demo's", parent_id=batch.span_id, tenant_id="demo", failed=True)
    below = SpanMade(trace_id, "below demo's", parent_id=demo.span_id)
    await send(service, edge, export([batch, acme, demo, below]))
    for spans in (0, 4):  # while they wait, and when they are stored
        await stored(client, spans)
        assert [span.name for span in (await client.get_trace(get(trace_id, "acme"))).spans] == ["acme's"]
        shown = (await client.get_trace(get(trace_id, "demo"))).spans
        assert sorted(span.name for span in shown) == ["below demo's", "demo's"]
    (summary,) = (await client.find_traces(pb.FindTracesRequest(tenant_id="acme"))).traces
    assert (summary.span_count, summary.has_error, summary.name, summary.duration.seconds) == (1, False, "", 0)


async def test_spans_of_another_tenant_take_no_place_of_ours(
    service: Running,
    client: TelemetryClient,
    edge: TokenSource,
    tokens_as: Callable[..., TokenSource],
    postgres_url: str,
) -> None:
    """Somebody who knows our trace's id sends thousands of spans under it."""
    trace_id = new_trace_id()
    root = SpanMade(trace_id, "ours", tenant_id="demo")
    await send(service, edge, export([root, SpanMade(trace_id, "names nobody", parent_id=root.span_id)]))
    await stored(client, 2)
    crowd = SpanMade(trace_id, "theirs", tenant_id="acme", started=root.started - 60)
    await send(service, tokens_as("integration", ("acme",)), export([crowd]))
    await stored(client, 3)
    connection = await asyncpg.connect(postgres_url)
    copies = "INSERT INTO telemetry.pieces SELECT p.* FROM telemetry.pieces p, generate_series(1, 1500) WHERE outside"
    await connection.execute(copies)
    await connection.close()
    shown = (await client.get_trace(get(trace_id))).spans
    assert sorted(span.name for span in shown) == ["names nobody", "ours"]
    assert [span.name for span in (await client.get_trace(get(trace_id, "acme"))).spans] == ["theirs"]
    (summary,) = (await client.find_traces(pb.FindTracesRequest(tenant_id="demo"))).traces
    assert summary.span_count == 2


async def test_a_tenants_service_may_tell_of_itself_only(
    service: Running, client: TelemetryClient, tokens_as: Callable[..., TokenSource]
) -> None:
    spans = [SpanMade(new_trace_id(), tenant_id=tenant) for tenant in ("acme", "demo", "acme")]
    response = await send(service, tokens_as("integration", ("acme",)), export(spans, "shop"))
    assert response.partial_success.rejected_spans == 1
    stats = await stored(client, 2)
    assert stats.spans_refused == 1


async def test_nobody_exports_without_a_token_and_nobody_sends_nonsense(service: Running, edge: TokenSource) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = channel.unary_unary(EXPORT)
        with pytest.raises(grpc.aio.AioRpcError) as nobody:
            await call(b"", timeout=60)
        metadata = (("authorization", f"Bearer {edge.token('telemetry')}"),)
        with pytest.raises(grpc.aio.AioRpcError) as nonsense:
            await call(b"\xff\xff", timeout=60, metadata=metadata)
    assert nobody.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert nonsense.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_traces_are_found_newest_first_page_by_page(
    service: Running, client: TelemetryClient, edge: TokenSource
) -> None:
    now = datetime.now(UTC).timestamp()
    traces = [new_trace_id() for _ in range(5)]
    spans = [
        SpanMade(trace_id, f"trace {index}", started=now - index, tenant_id="demo")
        for index, trace_id in enumerate(traces)
    ]
    await send(service, edge, export(spans))
    await send(service, edge, export([SpanMade(new_trace_id(), tenant_id="acme")]))
    await stored(client, 6)
    found: list[pb.TraceSummary] = []
    request = pb.FindTracesRequest(tenant_id="demo", page_size=2)
    pages = 0
    while pages == 0 or request.page_token:
        response = await client.find_traces(request)
        found += response.traces
        request.page_token = response.next_page_token
        pages += 1
    assert [each.trace_id for each in found] == [trace_id.hex() for trace_id in traces]
    assert [each.name for each in found] == [f"trace {index}" for index in range(5)]
    assert pages == 3


async def test_filters_look_at_the_whole_trace(service: Running, client: TelemetryClient, edge: TokenSource) -> None:
    now = datetime.now(UTC).timestamp()
    failed, slow, plain = (new_trace_id() for _ in range(3))
    roots = {each: SpanMade(each, "root", started=now - 60, tenant_id="demo") for each in (failed, slow, plain)}
    await send(service, edge, export(roots.values(), "edge"))
    await stored(client, 3)
    later = [
        SpanMade(failed, "send", parent_id=roots[failed].span_id, started=now - 59, failed=True),
        SpanMade(failed, "process", parent_id=roots[failed].span_id, started=now - 59, failed=True, tenant_id="demo"),
        SpanMade(slow, "send", parent_id=roots[slow].span_id, started=now - 30),
    ]
    await send(service, edge, export(later, "delivery"))
    await stored(client, 6)

    async def find(**filters: Any) -> list[pb.TraceSummary]:
        response = await client.find_traces(pb.FindTracesRequest(tenant_id="demo", **filters))
        return list(response.traces)

    assert {each.trace_id for each in await find()} == {each.hex() for each in (failed, slow, plain)}
    (only,) = await find(errors_only=True)
    assert (only.trace_id, only.name, only.span_count, only.has_error) == (failed.hex(), "root", 3, True)
    (only,) = await find(min_duration=Duration(seconds=10))
    assert only.trace_id == slow.hex()
    assert only.duration.seconds == 30
    assert {each.trace_id for each in await find(service="delivery")} == {failed.hex(), slow.hex()}


async def test_a_page_token_is_good_for_its_filters_only(
    service: Running, client: TelemetryClient, edge: TokenSource
) -> None:
    await send(service, edge, export([SpanMade(new_trace_id(), tenant_id="demo") for _ in range(2)]))
    await stored(client, 2)
    page = await client.find_traces(pb.FindTracesRequest(tenant_id="demo", page_size=1))
    for token in (page.next_page_token, "nonsense"):
        with pytest.raises(errors.InvalidArgument) as caught:
            await client.find_traces(pb.FindTracesRequest(tenant_id="acme", page_token=token))
        assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_what_is_too_much_is_dropped_and_counted(
    service: Running, client: TelemetryClient, edge: TokenSource
) -> None:
    request = export([SpanMade(new_trace_id(), attributes={"long": "x" * 1000}) for _ in range(100)])
    response = await send(service, edge, request)
    assert response.partial_success.rejected_spans == 100
    stats = await client.get_stats(pb.GetStatsRequest())
    assert (stats.spans_received, stats.spans_dropped, stats.spans_waiting) == (100, 100, 0)


async def test_spans_survive_a_restart_of_the_service(
    make_settings: Callable[..., TelemetrySettings], edge: TokenSource, operator_tokens: TokenSource
) -> None:
    settings = make_settings(TelemetrySettings, otlp_port=0)
    trace_id = new_trace_id()
    async with running("telemetry", settings, build) as service:
        await send(service, edge, export([SpanMade(trace_id, tenant_id="demo")]))
    async with (
        running("telemetry", settings, build) as service,
        connect(service.address, audience="telemetry", tokens=operator_tokens) as connection,
    ):
        assert len((await TelemetryClient(connection).get_trace(get(trace_id))).spans) == 1


def test_the_service_has_no_tracer_of_its_own() -> None:
    for path in (Path(__file__).parents[3] / "services" / "telemetry").glob("*.py"):
        assert "get_tracer" not in path.read_text(), path.name
