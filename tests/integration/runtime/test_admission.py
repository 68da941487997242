"""Who may call what, and with which requests."""

from pathlib import Path
from time import time
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from parley_client.channel import connect
from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from parley_client.tokens import StaticToken, TokenSource
from services.runtime.keys import Keys, make_token, tokens_of
from services.runtime.service import Running
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Caller


async def failure(service: Running, tokens: TokenSource, tenant_id: str = "acme") -> CallError | None:
    """What a GetMessage with these tokens fails with; None when it works."""
    async with connect(service.address, audience="dialog", tokens=tokens) as connection:
        request = dialog_pb2.GetMessageRequest(tenant_id=tenant_id, message_id=MESSAGE_ID)
        try:
            await DialogClient(connection).get_message(request)
        except CallError as error:
            return error
    return None


async def test_a_call_without_a_token_is_unauthenticated(caller: Caller) -> None:
    assert await caller.get(token=False) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "Bearer x.y.z"])
async def test_a_malformed_authorization_is_unauthenticated(caller: Caller, value: str) -> None:
    assert await caller.get(("authorization", value), token=False) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_for_another_service_is_unauthenticated(service: Running, keys_dir: Path) -> None:
    token = tokens_of(keys_dir, "edge").token("limits")
    failed = await failure(service, StaticToken(token))
    assert failed is not None
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_TOKEN")


async def test_a_caller_that_the_method_does_not_name_is_denied(service: Running, keys_dir: Path) -> None:
    failed = await failure(service, tokens_of(keys_dir, "telemetry"))
    assert failed is not None
    assert (failed.code, failed.reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED")
    assert failed.metadata == {"method": f"{SERVICE}/GetMessage", "caller": "telemetry"}


async def test_a_tenants_token_works_for_that_tenant_only(service: Running, keys_dir: Path) -> None:
    key = Keys(keys_dir).private("operator")
    token = make_token(key, issuer="integration", audience="*", tenants=["acme"], expires_at=time() + 3600)
    assert await failure(service, StaticToken(token)) is None
    failed = await failure(service, StaticToken(token), "other")
    assert failed is not None
    assert (failed.code, failed.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_NOT_ALLOWED")
    assert failed.metadata == {"tenant_id": "other"}


async def test_no_tenant_at_all_needs_a_token_for_all(service: Running, keys_dir: Path) -> None:
    key = Keys(keys_dir).private("operator")
    token = make_token(key, issuer="operator", audience="*", tenants=["acme"], expires_at=time() + 3600)
    request = dialog_pb2.GetQueueStatsRequest(tenant_id="")
    async with connect(service.address, audience="dialog", tokens=StaticToken(token)) as connection:
        with pytest.raises(CallError) as caught:
            await DialogClient(connection).get_queue_stats(request)
    assert caught.value.reason == "TENANT_NOT_ALLOWED"
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "operator")) as connection:
        await DialogClient(connection).get_queue_stats(request)


async def test_all_fields_that_break_a_rule_are_named(service: Running, keys_dir: Path) -> None:
    request = dialog_pb2.ChatRequest(tenant_id="NOT A SLUG", channel_id="web", bot_id="b", request_id="r")
    request.content.text = "x"
    for value in ("ok", ""):
        request.sender.also_known_as.add(kind=1, value=value)
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "edge")) as connection:
        with pytest.raises(CallError) as caught:
            await anext(DialogClient(connection).chat(request, timeout=60))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    fields = [field for field, _ in caught.value.fields]
    assert fields == ["tenant_id", "sender.identity", "sender.also_known_as[1].value"]
    assert all(description for _, description in caught.value.fields)


async def test_anyone_may_ask_for_health_and_reflection(service: Running) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        ask = reflection_pb2.ServerReflectionRequest(list_services="*")
        async for answer in reflection.ServerReflectionInfo(iter([ask])):
            names = [each.name for each in answer.list_services_response.service]
    assert SERVICE in names
    assert "grpc.health.v1.Health" in names


async def test_an_rpc_that_does_not_exist_is_unimplemented(service: Running) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = channel.unary_unary("/parley.dialog.v1.DialogService/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_that_is_too_large_is_refused_by_the_server(service: Running, keys_dir: Path) -> None:
    request = dialog_pb2.GetMessageRequest(tenant_id="a" * (9 << 20), message_id=MESSAGE_ID)
    metadata = (("authorization", f"Bearer {tokens_of(keys_dir, 'edge').token('dialog')}"),)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(service.address, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await dialog_pb2_grpc.DialogServiceStub(channel).GetMessage(request, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
