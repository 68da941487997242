"""SEC-2, OPS-3: whose trace a call may continue."""

from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from parley_client.channel import Connection, connect
from parley_client.tokens import StaticToken
from services.runtime.keys import Keys, make_token, tokens_of
from services.runtime.service import Running
from services.runtime.tracing.sampling import Cap
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Caller, Scripted, Serve, Spans
from tests.support.spans import recording

GET = f"{SERVICE}/GetMessage"
FOREIGN = f"00-{0xABC:032x}-{0xDEF:016x}-01"
TENANT = "parley.tenant_id"


def tenants(spans: Sequence[Span]) -> list[str]:
    return [each.value.string_value for span in spans for each in span.attributes if each.key == TENANT]


def continues(span: Span) -> bool:
    return span.trace_id == (0xABC).to_bytes(16)


def links(span: Span) -> list[tuple[bytes, bytes]]:
    return [(link.trace_id, link.span_id) for link in span.links]


async def get(connection: Connection, tenant_id: str = "acme", **more: Any) -> grpc.StatusCode:
    return await Caller(connection).get(("traceparent", FOREIGN), tenant_id=tenant_id, **more)


async def test_a_service_continues_the_trace(service: Running, spans: Spans, keys_dir: Path) -> None:
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "edge")) as edge:
        assert await get(edge) is grpc.StatusCode.OK
    span = await spans.first(GET)
    assert continues(span)
    assert not span.links
    assert tenants(spans) == ["acme"]


@pytest.mark.parametrize("name", ["operator", "integration"])
async def test_whoever_comes_from_outside_gets_a_trace_of_its_own(
    service: Running, spans: Spans, keys_dir: Path, name: str
) -> None:
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, name)) as outside:
        assert await get(outside) is grpc.StatusCode.OK
    span = await spans.first(GET)
    assert not continues(span)
    assert not span.parent_span_id
    assert links(span) == [((0xABC).to_bytes(16), (0xDEF).to_bytes(8))]
    assert tenants(spans) == ["acme"]


@pytest.mark.parametrize("token", ["", "Bearer nonsense"])
async def test_without_a_token_nothing_is_written_into_any_tenants_trace(
    service: Running, caller: Caller, spans: Spans, token: str
) -> None:
    metadata = [("traceparent", FOREIGN), *([("authorization", token)] if token else [])]
    assert await caller.get(*metadata, token=False) is grpc.StatusCode.UNAUTHENTICATED
    span = await spans.first(GET)
    assert not continues(span)
    assert links(span) == [((0xABC).to_bytes(16), (0xDEF).to_bytes(8))]
    assert tenants(spans) == []


async def test_a_tenant_that_is_refused_leaves_no_span_in_the_others_trace(
    service: Running, spans: Spans, keys_dir: Path
) -> None:
    key = Keys(keys_dir).private("operator")
    token = make_token(key, issuer="integration", audience="*", tenants=["acme"], expires_at=time() + 3600)
    async with connect(service.address, audience="dialog", tokens=StaticToken(token)) as shop:
        assert await get(shop, "other") is grpc.StatusCode.PERMISSION_DENIED
    await spans.first(GET)
    assert tenants(spans) == []


async def test_items_from_outside_get_traces_of_their_own(
    service: Running, spans: Spans, servicer: Scripted, keys_dir: Path
) -> None:
    seen: list[Any] = []

    async def handle(requests: Sequence[Any], contexts: Sequence[Any]) -> list[Any]:
        seen.extend(trace.get_current_span(context).get_span_context() for context in contexts)
        return [dialog_pb2.SubmitMessageResponse() for _ in requests]

    servicer.submit = handle
    batch = dialog_pb2.BatchSubmitMessageRequest()
    item = batch.items.add()
    fill(item.request)
    item.context.traceparent = FOREIGN
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "integration")) as shop:
        stub: Any = dialog_pb2_grpc.DialogServiceStub(shop.channel)
        response = await stub.BatchSubmitMessage(batch, metadata=shop.authorization())
    assert response.results[0].HasField("response")
    span = await spans.first(f"{SERVICE}/SubmitMessage")
    assert not continues(span)
    assert ((0xABC).to_bytes(16), (0xDEF).to_bytes(8)) in links(span)
    assert seen[0].span_id.to_bytes(8) == span.span_id


async def test_a_sampled_context_from_outside_does_not_pass_the_cap(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, keys_dir: Path
) -> None:
    """2,000 of 2,000 were recorded."""
    recorded = Spans()
    known, unknown = Cap(1, 5, monotonic=lambda: 0.0), Cap(1, 2, monotonic=lambda: 0.0)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded, known, unknown))
    async with (
        serve() as service,
        connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "integration")) as shop,
    ):
        for _ in range(40):
            await get(shop)
        assert len(recorded) == 5
        for _ in range(40):
            await get(shop, token=False)
    assert len(recorded) == 7, "those without a token have a small cap of their own"


def fill(request: Any) -> None:
    request.tenant_id, request.channel_id, request.bot_id = "acme", "web", "bot"
    request.chat_id, request.dedupe_key = "1", "inbox:1"
    request.sender.identity.kind, request.sender.identity.value = 2, "1"
    request.content.text = MESSAGE_ID
