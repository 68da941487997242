"""The edge over real HTTP, before a dialog and a delivery that do as they are told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from parley.common.v1 import usage_pb2
from parley.delivery.v1 import channel_pb2, channel_pb2_grpc, delivery_pb2, delivery_pb2_grpc
from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc, tenant_pb2, tenant_pb2_grpc

from services.edge.channels import ChannelMirror
from services.edge.settings import EdgeSettings
from services.edge.wiring import build
from services.kernel.errors import Kind, ParleyError, not_found
from services.runtime.batches import run_items
from services.runtime.service import App, Running, Runtime, running
from services.runtime.settings import Settings
from tests.integration.edge.serving import Served, serving

SECRET = "s3cret-s3cret"


@dataclass
class FakeDialog(dialog_pb2_grpc.DialogServiceServicer, tenant_pb2_grpc.TenantServiceServicer):
    """Keeps what it is given; fails as told."""

    submitted: list[dialog_pb2.SubmitMessageRequest] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    verified: list[str] = field(default_factory=list)
    chats: list[dialog_pb2.ChatRequest] = field(default_factory=list)
    error: ParleyError | None = None
    refused: dict[str, ParleyError] = field(default_factory=dict)
    """Why it takes no message with a dedupe key."""
    stats: int = 0
    abandoned: int = 0

    async def BatchSubmitMessage(self, request: Any, context: Any) -> dialog_pb2.BatchSubmitMessageResponse:
        async def handle(requests: list[dialog_pb2.SubmitMessageRequest]) -> list[Any]:
            if self.error:
                raise self.error
            return [self.refused.get(one.dedupe_key) or self._store(one) for one in requests]

        return await run_items(
            request,
            context,
            method="/parley.dialog.v1.DialogService/SubmitMessage",
            respond=dialog_pb2.BatchSubmitMessageResponse,
            handle=handle,
        )

    def _store(self, request: dialog_pb2.SubmitMessageRequest) -> dialog_pb2.SubmitMessageResponse:
        known = self.seen.get(request.dedupe_key)
        if known is None:
            self.submitted.append(request)
            self.seen[request.dedupe_key] = str(uuid4())
        return dialog_pb2.SubmitMessageResponse(message_id=self.seen[request.dedupe_key], duplicate=known is not None)

    async def Chat(self, request: dialog_pb2.ChatRequest, context: Any) -> AsyncIterator[dialog_pb2.ChatResponse]:
        self.chats.append(request)
        yield dialog_pb2.ChatResponse(accepted=dialog_pb2.ChatResponse.Accepted(message_id="m1"))
        if self.error:
            raise self.error
        yield dialog_pb2.ChatResponse(delta=dialog_pb2.ChatResponse.Delta(text="Hel"))
        if request.content.text == "wait":
            try:
                await asyncio.sleep(60)
            finally:
                self.abandoned += 1
        yield dialog_pb2.ChatResponse(reset=dialog_pb2.ChatResponse.Reset())
        yield dialog_pb2.ChatResponse(
            final=dialog_pb2.ChatResponse.Final(
                reply="Hello",
                usage=usage_pb2.ModelUsage(input_tokens=10, output_tokens=5),
                remaining_today=29,
                message_id="m1",
            )
        )

    async def VerifyApiKey(self, request: tenant_pb2.VerifyApiKeyRequest, context: Any) -> Any:
        self.verified.append(request.key)
        if not request.key.startswith("good"):
            raise ParleyError(Kind.UNAUTHENTICATED, "INVALID_API_KEY", "The API key is not valid.")
        return tenant_pb2.VerifyApiKeyResponse(
            api_key=tenant_pb2.ApiKey(tenant_id="demo", channel_id="api", scopes=[tenant_pb2.API_KEY_SCOPE_CHAT])
        )

    async def GetQueueStats(self, request: Any, context: Any) -> dialog_pb2.GetQueueStatsResponse:
        self.stats += 1
        return dialog_pb2.GetQueueStatsResponse(waiting=3)


@dataclass
class FakeDelivery(channel_pb2_grpc.ChannelServiceServicer, delivery_pb2_grpc.DeliveryServiceServicer):
    """Has some channels, of which the watch tells only the first."""

    channels: dict[str, channel_pb2.Channel] = field(default_factory=dict)
    statuses: list[delivery_pb2.ReportStatusRequest] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def WatchChannels(self, request: Any, context: Any) -> AsyncIterator[channel_pb2.WatchChannelsResponse]:
        first = next(iter(self.channels.values()))
        changed = channel_pb2.WatchChannelsResponse.Changed(channel=first, webhook_secret=SECRET)
        yield channel_pb2.WatchChannelsResponse(changed=changed)
        yield channel_pb2.WatchChannelsResponse(ready=channel_pb2.WatchChannelsResponse.Ready())
        await asyncio.Event().wait()

    async def GetChannel(self, request: channel_pb2.GetChannelRequest, context: Any) -> Any:
        self.asked.append(request.channel_id)
        if request.channel_id not in self.channels:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", request.channel_id)
        return channel_pb2.GetChannelResponse(channel=self.channels[request.channel_id], webhook_secret=SECRET)

    async def ReportStatus(self, request: delivery_pb2.ReportStatusRequest, context: Any) -> Any:
        self.statuses.append(request)
        return delivery_pb2.ReportStatusResponse()

    async def GetQueueStats(self, request: Any, context: Any) -> delivery_pb2.GetQueueStatsResponse:
        return delivery_pb2.GetQueueStatsResponse(waiting=4)


@dataclass
class Edge:
    url: str
    http: aiohttp.ClientSession
    dialog: FakeDialog
    delivery: FakeDelivery

    async def hook(
        self, body: Any = None, channel: str = "c2d", secret: str | None = SECRET, **more: Any
    ) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(inbox(**(body or {}))).encode()
        headers = {} if secret is None else {"X-Webhook-Secret": secret}
        path = more.get("path", f"/webhooks/chat2desk/{channel}")
        async with self.http.post(self.url + path, data=data, headers=headers) as response:
            return response.status, await response.json(content_type=None), response.headers

    async def chat(self, body: Any, key: str = "good", **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(
            self.url + "/v1/chat/send", data=data, headers={"X-API-KEY": key, **headers}
        ) as response:
            return response.status, await response.json(content_type=None), response.headers


def inbox(**changes: Any) -> dict[str, Any]:
    return {"hook_type": "inbox", "type": "from_client", "message_id": 1, "client_id": 7, "text": "hi", **changes}


def channel(name: str, provider: Any = channel_pb2.PROVIDER_CHAT2DESK, enabled: bool = True) -> channel_pb2.Channel:
    return channel_pb2.Channel(
        tenant_id="demo", channel_id=name, provider=provider, bot_id="water", enabled=enabled, revision=1
    )


@pytest.fixture
async def edge(make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    patient = partial(ChannelMirror, forget_after=3600.0, ask_timeout=30.0)  # so that no test depends on how fast it is
    monkeypatch.setattr("services.edge.wiring.ChannelMirror", patient)
    dialog = FakeDialog()  # type: ignore[abstract]
    delivery = FakeDelivery(  # type: ignore[abstract]
        {
            one.channel_id: one
            for one in (
                channel("c2d"),
                channel("late"),
                channel("off", enabled=False),
                channel("api", channel_pb2.PROVIDER_API),
            )
        }
    )

    async def dialog_app(runtime: Runtime, settings: Settings) -> App:
        return App(
            servicers=[
                ("parley.dialog.v1.DialogService", dialog_pb2_grpc.add_DialogServiceServicer_to_server, dialog),
                ("parley.dialog.v1.TenantService", tenant_pb2_grpc.add_TenantServiceServicer_to_server, dialog),
            ]
        )

    async def delivery_app(runtime: Runtime, settings: Settings) -> App:
        add_channels = channel_pb2_grpc.add_ChannelServiceServicer_to_server
        add_deliveries = delivery_pb2_grpc.add_DeliveryServiceServicer_to_server
        return App(
            servicers=[
                ("parley.delivery.v1.ChannelService", add_channels, delivery),
                ("parley.delivery.v1.DeliveryService", add_deliveries, delivery),
            ]
        )

    async with AsyncExitStack() as stack:
        quick = make_settings(Settings, drain_seconds=0.5)
        one = await stack.enter_async_context(running("dialog", quick, dialog_app))
        two = await stack.enter_async_context(running("delivery", quick, delivery_app))
        settings = make_settings(
            EdgeSettings,
            edge_port=0,
            dialog_address=one.address,
            delivery_address=two.address,
            context_address=one.address,
            limits_address=one.address,
            edge_chat2desk_channel="c2d",
            edge_submit_timeout_seconds=30.0,
            edge_max_failures=10,
            drain_seconds=0.5,
        )
        service = await stack.enter_async_context(running("edge", settings, build))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Edge(f"http://127.0.0.1:{await port_of(service)}", http, dialog, delivery)


async def port_of(service: Running) -> int:
    """The HTTP port, once it is listened on."""
    run: Any = service.app.background[-1]
    port: int = await asyncio.wait_for(asyncio.shield(run.__self__.port), 30)
    return port


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(head_bytes=4096, head_seconds=30.0, body_seconds=30.0, body_bytes=100_000) as one:
        yield one


@pytest.fixture
async def impatient() -> AsyncIterator[Served]:
    """Too impatient for any test that is not about that."""
    async with serving(head_seconds=1.0, body_seconds=1.0) as one:
        yield one
