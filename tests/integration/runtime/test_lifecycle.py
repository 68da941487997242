"""A service starts, tells its health, and stops in order."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from parley_client.channel import Connection, connect
from parley_client.dialog import DialogClient
from parley_client.errors import CallError
from services.runtime.app import App
from services.runtime.keys import tokens_of
from services.runtime.service import Runtime, running
from services.runtime.settings import Settings
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Scripted, Serve
from tests.integration.runtime.test_statuses import chat_request

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def to(address: str, keys_dir: Path) -> Connection:
    return connect(address, audience="dialog", tokens=tokens_of(keys_dir, "operator"))


async def test_health_falls_and_rises_with_the_checks(serve: Serve) -> None:
    away = False

    async def store() -> None:
        if away:
            raise ConnectionError("away")

    async with serve(checks={"store": store}) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        away = True
        assert (await watch.read()).status == NOT_SERVING
        away = False
        assert (await watch.read()).status == SERVING
        watch.cancel()


async def test_a_service_that_lacks_its_store_starts_and_says_so(serve: Serve) -> None:
    async def store() -> None:
        raise ConnectionError("away")

    async with serve(checks={"store": store}) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING


async def test_what_a_service_can_do_without_is_told_under_its_own_name_only(settings: Settings) -> None:
    async def away() -> None:
        raise ConnectionError("away")

    async def build(runtime: Runtime, settings: Settings) -> App:
        servicers = [(SERVICE, dialog_pb2_grpc.add_DialogServiceServicer_to_server, Scripted())]  # type: ignore[abstract]
        return App(servicers, checks={"redis": away}, spared=frozenset({"redis"}))

    async with running("dialog", settings, build) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        told = [
            (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", SERVICE, "redis")
        ]
    assert told == [SERVING, SERVING, NOT_SERVING]


async def test_a_check_that_hangs_counts_as_failed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runtime.health.CHECK_TIMEOUT", 0.05)

    async def store() -> None:
        await asyncio.sleep(60)

    async with serve(checks={"store": store}) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING


async def test_a_stopping_service_lets_a_call_finish(serve: Serve, servicer: Scripted, keys_dir: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def get(request: Any, context: Any) -> dialog_pb2.GetMessageResponse:
        begun.set()
        await go_on.wait()
        return dialog_pb2.GetMessageResponse()

    servicer.get = get
    service = serve()
    started = await service.__aenter__()
    connection = to(started.address, keys_dir)
    request = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID)
    call = asyncio.ensure_future(DialogClient(connection).get_message(request))
    await begun.wait()
    async with grpc.aio.insecure_channel(started.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        stopping = asyncio.ensure_future(service.__aexit__(None, None, None))
        assert (await watch.read()).status == NOT_SERVING
        assert not stopping.done()
        go_on.set()
        await call
        watch.cancel()
    await stopping
    await connection.close()


async def test_a_stopping_service_ends_endless_streams_at_once(
    serve: Serve, servicer: Scripted, keys_dir: Path
) -> None:
    async def get(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    servicer.get = get
    async with asyncio.timeout(30):  # less than the minute that calls get
        async with serve() as service:
            connection = to(service.address, keys_dir)
            stream = connection.channel.unary_stream(
                f"/{SERVICE}/Chat",
                request_serializer=dialog_pb2.ChatRequest.SerializeToString,
                response_deserializer=dialog_pb2.ChatResponse.FromString,
            )(chat_request(), metadata=connection.authorization())
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in str(caught.value.details())
    assert servicer.cancelled.is_set()
    await connection.close()


async def test_background_work_finishes_what_it_has(serve: Serve) -> None:
    finished = False

    async def work(stop: asyncio.Event) -> None:
        nonlocal finished
        await stop.wait()
        await asyncio.sleep(0.05)
        finished = True

    async with serve(background=[work]):
        pass
    assert finished


async def test_background_work_that_does_not_stop_is_cancelled(serve: Serve) -> None:
    cancelled = asyncio.Event()

    async def work(stop: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with asyncio.timeout(30):
        async with serve(background=[work], drain_seconds=0.05):
            pass
    assert cancelled.is_set()


async def test_a_crash_in_the_background_is_reported(serve: Serve) -> None:
    async def work(stop: asyncio.Event) -> None:
        raise RuntimeError("broken")

    async with serve(background=[work]) as service:
        await until(service.failed.done)
        assert isinstance(service.failed.exception(), RuntimeError)


async def test_what_wiring_opened_is_closed_last_first_after_the_server(settings: Settings) -> None:
    closed = []

    async def build(runtime: Runtime, settings: Settings) -> App:
        async def first() -> None:
            closed.append("first")

        async def second() -> None:
            closed.append("second")

        runtime.on_close(first)
        runtime.on_close(second)

        async def work(stop: asyncio.Event) -> None:
            await stop.wait()
            closed.append("background")

        return App(background=[work])

    async with running("edge", settings, build) as service:
        assert service.address == ""
    assert closed == ["background", "second", "first"]


async def test_wiring_that_fails_closes_what_it_opened(settings: Settings) -> None:
    closed = asyncio.Event()

    async def build(runtime: Runtime, settings: Settings) -> App:
        async def close() -> None:
            closed.set()

        runtime.on_close(close)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        async with running("edge", settings, build):
            pass
    assert closed.is_set()


async def test_a_taken_port_is_an_error(serve: Serve, settings: Settings) -> None:
    async with serve() as service:
        port = int(service.address.rpartition(":")[2])

        async def build(runtime: Runtime, settings: Settings) -> App:
            return service.app  # type: ignore[no-any-return]

        with pytest.raises(RuntimeError, match="bind"):
            async with running("dialog", settings, build, port=port):
                pass


async def test_after_the_stop_calls_find_nobody(serve: Serve, keys_dir: Path) -> None:
    async with serve() as service:
        address = service.address
    async with to(address, keys_dir) as connection:
        request = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID)
        with pytest.raises(CallError) as caught:
            await DialogClient(connection).get_message(request, timeout=1)
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
