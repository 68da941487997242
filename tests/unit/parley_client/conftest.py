"""A limits service in this process that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2

from parley.delivery.v1 import channel_pb2
from parley.limits.v1 import limits_pb2

from parley_client.channel import Connection, connect
from parley_client.tokens import StaticToken

Context = grpc.aio.ServicerContext[Any, Any]


def refusal() -> status_pb2.Status:
    """A rich status as the services make them."""
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="Too many turns today.")
    info = error_details_pb2.ErrorInfo(
        reason="ERROR_REASON_LIMIT_EXCEEDED", domain="parley", metadata={"rule_id": "daily-quota"}
    )
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    violation = error_details_pb2.BadRequest.FieldViolation(field="units", description="is too much")
    for detail in (info, retry, error_details_pb2.BadRequest(field_violations=[violation])):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


class ScriptedLimits:
    """Records calls; `behave` runs before each answer."""

    def __init__(self) -> None:
        self.batches: list[limits_pb2.BatchReserveRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.remaining: list[float] = []
        self.cancelled = asyncio.Event()
        self.behave: Callable[[Context], Awaitable[None]] = self.answer

    async def answer(self, context: Context) -> None:
        """As it should be."""

    async def hang(self, context: Context) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def refuse(self, context: Context) -> None:
        status = refusal()
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, trailing)

    async def be_away(self, context: Context) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    async def _called(self, context: Context) -> None:
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.remaining.append(context.time_remaining())
        await self.behave(context)

    async def check(self, request: limits_pb2.CheckRequest, context: Context) -> limits_pb2.CheckResponse:
        await self._called(context)
        return limits_pb2.CheckResponse(allowed=True)

    async def batch_reserve(
        self, request: limits_pb2.BatchReserveRequest, context: Context
    ) -> limits_pb2.BatchReserveResponse:
        self.batches.append(request)
        await self._called(context)
        response = limits_pb2.BatchReserveResponse()
        for item in request.items:
            if item.request.resource == "refused":
                response.results.add(error=refusal())
            else:
                padding = "x" * item.request.units
                response.results.add().response.reservation_id = item.request.request_id + padding
        return response


class ScriptedChannels:
    """Sends two channels, then goes on waiting."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def watch(
        self, request: channel_pb2.WatchChannelsRequest, context: Context
    ) -> AsyncIterator[channel_pb2.WatchChannelsResponse]:
        try:
            for _ in range(2):
                yield channel_pb2.WatchChannelsResponse()
            await asyncio.sleep(60)
        finally:
            self.left.set()


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; gives it half a minute."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def limits() -> ScriptedLimits:
    return ScriptedLimits()


@pytest.fixture
async def channels() -> ScriptedChannels:
    return ScriptedChannels()


async def serve(
    limits: ScriptedLimits, channels: ScriptedChannels, port: int = 0, tls: grpc.ServerCredentials | None = None
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    answered: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Check": grpc.unary_unary_rpc_method_handler(
            limits.check, limits_pb2.CheckRequest.FromString, limits_pb2.CheckResponse.SerializeToString
        ),
        "BatchReserve": grpc.unary_unary_rpc_method_handler(
            limits.batch_reserve,
            limits_pb2.BatchReserveRequest.FromString,
            limits_pb2.BatchReserveResponse.SerializeToString,
        ),
    }
    watched: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "WatchChannels": grpc.unary_stream_rpc_method_handler(
            channels.watch,
            channel_pb2.WatchChannelsRequest.FromString,
            channel_pb2.WatchChannelsResponse.SerializeToString,
        )
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("parley.limits.v1.LimitsService", answered),
            grpc.method_handlers_generic_handler("parley.delivery.v1.ChannelService", watched),
        )
    )
    at = f"127.0.0.1:{port}"
    port = server.add_secure_port(at, tls) if tls else server.add_insecure_port(at)
    await server.start()
    return server, port


@pytest.fixture
async def address(limits: ScriptedLimits, channels: ScriptedChannels) -> AsyncIterator[str]:
    server, port = await serve(limits, channels)
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def connection(address: str) -> AsyncIterator[Connection]:
    async with connect(address, audience="limits", tokens=StaticToken("the-token")) as connection:
        yield connection
