"""A delivery service on real stores, with a provider, a limits and a dialog service that can change their minds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from parley.common.v1 import content_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc
from parley.limits.v1 import limits_pb2, limits_pb2_grpc

from parley_client.channel import connect
from parley_client.delivery import ChannelClient, DeliveryClient
from services.delivery.settings import DeliverySettings
from services.delivery.wiring import build
from services.kernel.ids import conversation_id
from services.runtime.service import running

TENANT = "acme"
CHANNEL = "acme-chat2desk"
TOKEN = "token-1"
DEAD = delivery_pb2.PART_STATE_DEAD
SENT = delivery_pb2.PART_STATE_SENT
UNKNOWN = delivery_pb2.PART_STATE_UNKNOWN
PENDING = delivery_pb2.PART_STATE_PENDING
STARTED = delivery_pb2.PART_STATE_STARTED


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """WaitReasons for a condition (plain or async) to be true, and returns what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if isinstance(result, Awaitable):
                result = await result
            if result:
                return result
            await asyncio.sleep(0.02)


@dataclass
class Call:
    """One request that the provider got."""

    token: str
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.body["text"])

    @property
    def chat(self) -> str:
        return str(self.body["client_id"])


Answer = Callable[[Call], Awaitable[web.StreamResponse | None]]


@dataclass
class Receiver:
    """Chat2Desk. `answer` may be exchanged in the middle of a test; None closes the connection without a word."""

    calls: list[Call] = field(default_factory=list)
    base: str = ""
    answer: Answer | None = None
    next_id: int = 1000

    def texts(self, chat: str = "") -> list[str]:
        return [call.text for call in self.calls if not chat or call.chat == chat]

    def fail(self, status: int, times: int = 1, **headers: str) -> None:
        """The next calls fail with this status, then they work."""
        left = [times]

        async def answer(call: Call) -> web.StreamResponse | None:
            if left[0] == 0:
                return self.ok()
            left[0] -= 1
            body = {"status": "error", "message": f"no, not {call.text!r} for +996555123456"}
            return web.json_response(body, status=status, headers=headers)

        self.answer = answer

    def ok(self) -> web.Response:
        self.next_id += 1
        return web.json_response({"status": "success", "data": {"message_id": self.next_id}})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.headers.get("Authorization", ""), await request.json())
        self.calls.append(call)
        answer = await self.answer(call) if self.answer else self.ok()
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


@dataclass
class FakeLimits(limits_pb2_grpc.LimitsServiceServicer):
    """Grants all, unless told otherwise."""

    asked: list[limits_pb2.ReserveRequest] = field(default_factory=list)
    reply: Callable[[limits_pb2.ReserveRequest], limits_pb2.ReserveResponse] = field(
        default=lambda _: limits_pb2.ReserveResponse(granted=True)
    )
    hang: float = 0.0

    async def BatchReserve(self, request: Any, context: Any) -> limits_pb2.BatchReserveResponse:
        await asyncio.sleep(self.hang)
        response = limits_pb2.BatchReserveResponse()
        for item in request.items:
            self.asked.append(item.request)
            response.results.add().response.CopyFrom(self.reply(item.request))
        return response


def granted(wait: float) -> limits_pb2.ReserveResponse:
    return limits_pb2.ReserveResponse(granted=True, wait=_duration(wait))


def refused(retry_after: float) -> limits_pb2.ReserveResponse:
    return limits_pb2.ReserveResponse(granted=False, refused_by="x", retry_after=_duration(retry_after))


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


@dataclass
class FakeDialog(dialog_pb2_grpc.DialogServiceServicer):
    """Remembers what it is told."""

    told: list[dialog_pb2.RecordOutcomeRequest] = field(default_factory=list)
    away: bool = False
    faulty: set[str] = field(default_factory=set)
    """Deliveries whose outcomes it cannot take."""
    asked: list[str] = field(default_factory=list)

    async def BatchRecordOutcome(self, request: Any, context: Any) -> dialog_pb2.BatchRecordOutcomeResponse:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        response = dialog_pb2.BatchRecordOutcomeResponse()
        for item in request.items:
            self.asked.append(item.request.delivery_id)
            if item.request.delivery_id in self.faulty:
                response.results.add().error.code = grpc.StatusCode.INTERNAL.value[0]
                continue
            self.told.append(item.request)
            response.results.add().response.CopyFrom(dialog_pb2.RecordOutcomeResponse())
        return response

    def states(self, delivery_id: str) -> list[str]:
        return [
            dialog_pb2.ReplyState.Name(each.state).removeprefix("REPLY_STATE_")
            for each in self.told
            if each.delivery_id == delivery_id
        ]


@dataclass
class World:
    """Everything around the delivery service."""

    receiver: Receiver
    limits: FakeLimits
    dialog: FakeDialog
    limits_address: str
    dialog_address: str
    make_settings: Callable[..., Any]
    tokens_as: Callable[..., Any]

    @asynccontextmanager
    async def serving(self, **overrides: object) -> AsyncIterator["Delivery"]:
        """A delivery service; several at once share the stores."""
        settings = self.settings(**overrides)
        async with running("delivery", settings, build) as service:
            async with AsyncExitStack() as stack:
                yield Delivery(self, service.address, stack)

    def settings(self, **overrides: object) -> DeliverySettings:
        values = {
            "limits_address": self.limits_address,
            "dialog_address": self.dialog_address,
            "delivery_first_delay_seconds": 0.1,
            "delivery_timeout_seconds": 20.0,
            "delivery_lease_seconds": 60.0,
            "drain_seconds": 3.0,
        }
        settings: DeliverySettings = self.make_settings(DeliverySettings, **(values | overrides))
        return settings


@dataclass
class Delivery:
    """A running service, as its callers see it."""

    world: World
    address: str
    stack: AsyncExitStack

    def as_(self, caller: str, tenants: tuple[str, ...] = ("*",)) -> tuple[DeliveryClient, ChannelClient]:
        connection = connect(self.address, audience="delivery", tokens=self.world.tokens_as(caller, tenants=tenants))
        self.stack.push_async_callback(connection.close)
        return DeliveryClient(connection), ChannelClient(connection)

    @property
    def client(self) -> DeliveryClient:
        return self.as_("dialog")[0]

    async def create_channel(
        self, channel_id: str = CHANNEL, tenant: str = TENANT, **values: Any
    ) -> channel_pb2.CreateChannelResponse:
        channel: dict[str, Any] = {
            "tenant_id": tenant,
            "channel_id": channel_id,
            "provider": channel_pb2.PROVIDER_CHAT2DESK,
            "bot_id": "water",
            "api_base": self.world.receiver.base,
        }
        request = channel_pb2.CreateChannelRequest(
            tenant_id=tenant,
            channel=channel_pb2.Channel(**(channel | values)),
            secrets=channel_pb2.ChannelSecrets(token=TOKEN),
            request_id=uuid4().hex,
        )
        return await self.as_("operator")[1].create_channel(request)

    async def get(self, delivery_id: str, tenant: str = TENANT) -> delivery_pb2.Delivery:
        request = delivery_pb2.GetDeliveryRequest(tenant_id=tenant, delivery_id=delivery_id)
        response = await self.as_("operator")[0].get_delivery(request)
        return response.delivery

    async def until_state(self, delivery_id: str, *states: int, seconds: float = 30.0) -> delivery_pb2.Delivery:
        """WaitReasons until all parts have one of the states."""
        found: list[delivery_pb2.Delivery] = []

        async def reached() -> bool:
            found[:] = [await self.get(delivery_id)]
            return all(part.state in states for part in found[0].parts)

        await until(reached, seconds)
        return found[0]


def message(text: str, chat: str = "chat-1", **values: Any) -> delivery_pb2.SendMessageRequest:
    request: dict[str, Any] = {
        "tenant_id": TENANT,
        "channel_id": CHANNEL,
        "conversation_id": str(conversation_id(CHANNEL, chat)),
        "chat_id": chat,
        "content": content_pb2.OutboundContent(text=text),
        "request_id": uuid4().hex + "/0",
        "message_id": str(UUID(int=7)),
    }
    return delivery_pb2.SendMessageRequest(**(request | values))


@pytest.fixture
async def world(make_settings: Callable[..., Any], tokens_as: Callable[..., Any]) -> AsyncIterator[World]:
    receiver = Receiver()
    limits = FakeLimits()  # type: ignore[abstract]
    dialog = FakeDialog()  # type: ignore[abstract]
    app = web.Application()
    app.router.add_post("/chat2desk/v1/messages", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.base = f"http://127.0.0.1:{port}/chat2desk"
    server = grpc.aio.server()
    limits_pb2_grpc.add_LimitsServiceServicer_to_server(limits, server)
    dialog_pb2_grpc.add_DialogServiceServicer_to_server(dialog, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield World(receiver, limits, dialog, address, address, make_settings, tokens_as)
    await server.stop(0.1)
    await runner.cleanup()


@pytest.fixture
async def delivery(world: World) -> AsyncIterator[Delivery]:
    async with world.serving() as service:
        await service.create_channel()
        yield service


async def enable(delivery: Delivery, request_id: str = "enable") -> None:
    await delivery.as_("operator")[1].enable_channel(
        channel_pb2.EnableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id=request_id)
    )
