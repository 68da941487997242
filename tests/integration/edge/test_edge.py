"""EDGE-1..6, EDGE-9: the edge over real HTTP, before a dialog and a delivery that do as they are told."""

import asyncio
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley.common.v1 import identity_pb2, usage_pb2
from parley.delivery.v1 import channel_pb2, channel_pb2_grpc, delivery_pb2, delivery_pb2_grpc
from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc, tenant_pb2, tenant_pb2_grpc

from parley_client.tokens import TokenSource
from services.edge.settings import EdgeSettings
from services.edge.wiring import build
from services.kernel.errors import Kind, ParleyError, not_found, storage_unavailable
from services.runtime.batches import run_items
from services.runtime.service import App, Running, Runtime, running
from services.runtime.settings import Settings
from tests.support.spans import recording

SECRET = "s3cret-s3cret"


@dataclass
class FakeDialog(dialog_pb2_grpc.DialogServiceServicer, tenant_pb2_grpc.TenantServiceServicer):
    """Keeps what it is given; fails as told."""

    submitted: list[dialog_pb2.SubmitMessageRequest] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    verified: list[str] = field(default_factory=list)
    chats: list[dialog_pb2.ChatRequest] = field(default_factory=list)
    error: ParleyError | None = None
    stats: int = 0
    abandoned: int = 0

    async def BatchSubmitMessage(self, request: Any, context: Any) -> dialog_pb2.BatchSubmitMessageResponse:
        async def handle(requests: list[dialog_pb2.SubmitMessageRequest]) -> list[Any]:
            if self.error:
                raise self.error
            return [self._store(one) for one in requests]

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
async def edge(make_settings: Callable[..., Any]) -> AsyncIterator[Edge]:
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
        mirror = service.app.background[0].__self__  # type: ignore[attr-defined]
        mirror._forget_after, mirror._ask_timeout = 3600.0, 30.0  # so that no test depends on how fast it is
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Edge(f"http://127.0.0.1:{await port_of(service)}", http, dialog, delivery)


async def port_of(service: Running) -> int:
    """The HTTP port, once it is listened on."""
    run: Any = service.app.background[-1]
    port: int = await asyncio.wait_for(asyncio.shield(run.__self__.port), 30)
    return port


async def test_a_webhook_is_stored_and_answered_with_its_id(edge: Edge) -> None:
    status, body, _ = await edge.hook()
    assert (status, body["duplicate"]) == (200, False)
    assert body["message_id"] == edge.dialog.seen["inbox:1"]
    assert edge.dialog.submitted[0].content.text == "hi"


async def test_a_duplicate_gets_the_first_ones_id(edge: Edge) -> None:
    _, first, _ = await edge.hook()
    status, second, _ = await edge.hook()
    assert (status, second) == (200, {"message_id": first["message_id"], "duplicate": True})
    assert len(edge.dialog.submitted) == 1


async def test_the_secret_may_stand_in_the_address(edge: Edge) -> None:
    status, _, _ = await edge.hook(secret=None, path=f"/webhooks/chat2desk/c2d?secret={SECRET}")
    assert status == 200


@pytest.mark.parametrize("secret", [None, "", "wrong"])
async def test_without_the_secret_nothing_is_read(edge: Edge, secret: str | None) -> None:
    status, body, headers = await edge.hook(b"not json", secret=secret)
    assert (status, body["reason"]) == (401, "INVALID_SIGNATURE")
    assert headers["content-type"] == "application/problem+json"
    assert not edge.dialog.submitted


async def test_an_unknown_channel_is_asked_for_before_it_is_a_404(edge: Edge) -> None:
    assert (await edge.hook(channel="late"))[0] == 200
    for _ in range(3):
        assert (await edge.hook(channel="nowhere"))[0] == 404
    assert edge.delivery.asked.count("nowhere") == 1


async def test_unknown_channels_cost_their_address_and_known_ones_go_on(edge: Edge) -> None:
    answers = [await edge.hook(channel=f"guess-{number}") for number in range(15)]
    assert [status for status, _, _ in answers] == [404] * 10 + [429] * 5
    assert answers[-1][1]["reason"] == "TOO_MANY_FAILURES" and 0 < int(answers[-1][2]["retry-after"]) <= 60
    assert len(edge.delivery.asked) == 10  # the others cost nobody a question
    assert (await edge.hook())[0] == 200


async def test_wrong_secrets_cost_their_address_and_right_ones_go_on(edge: Edge) -> None:
    answers = [await edge.hook(secret=f"guess-{number}") for number in range(12)]
    assert [status for status, _, _ in answers] == [401] * 10 + [429] * 2
    assert (await edge.hook())[0] == 200


async def test_unknown_keys_cost_their_address_and_proven_ones_go_on(edge: Edge) -> None:
    body = {"telegram_id": 1, "message": "hi"}
    assert (await edge.chat(body))[0] == 200
    answers = [await edge.chat(body, key=f"bad-{number}") for number in range(12)]
    assert [status for status, _, _ in answers] == [401] * 10 + [429] * 2
    assert len(edge.dialog.verified) == 11
    assert (await edge.chat(body))[0] == 200
    assert (await edge.chat(body, key="good-but-never-seen"))[0] == 429


async def test_many_calls_with_a_new_key_ask_once(edge: Edge) -> None:
    answers = await asyncio.gather(*(edge.chat({"telegram_id": n, "message": "hi"}) for n in range(30)))
    assert {status for status, _, _ in answers} == {200}
    assert edge.dialog.verified == ["good"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/webhooks/chat2desk/nowhere", "", 404),
        ("/webhooks/chat2desk/c2d?secret=wrong", "", 401),
        (f"/webhooks/chat2desk/c2d?secret={SECRET}", "Content-Length: 1000001", 413),
        (f"/webhooks/chat2desk/c2d?secret={SECRET}", "Content-Type: multipart/form-data", 422),
        ("/v1/chat/send", "X-API-KEY: bad", 401),
        ("/v1/chat/stream", "X-API-KEY: bad", 401),
        ("/v1/chat/send", "X-API-KEY: good\r\nContent-Length: 1000001", 413),
        ("/nothing", "", 404),
    ],
)
async def test_what_the_address_and_the_headers_show_is_answered_before_the_body(
    edge: Edge, path: str, headers: str, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
    length = "" if "Content-Length" in headers else "Content-Length: 500\r\n"
    writer.write(f"POST {path} HTTP/1.1\r\n{headers}{headers and chr(13) + chr(10)}{length}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and b"application/problem+json" in answer
    writer.close()


async def test_who_goes_away_in_the_middle_is_no_error(edge: Edge, capfd: pytest.CaptureFixture[str]) -> None:
    for head in (f"webhooks/chat2desk/c2d?secret={SECRET} HTTP/1.1", "v1/chat/send HTTP/1.1\r\nX-API-KEY: good"):
        _, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
        writer.write(f"POST /{head}\r\nContent-Length: 50\r\n\r\n{{".encode())
        await asyncio.sleep(0.3)
        writer.transport.abort()
    await asyncio.sleep(0.3)
    said = capfd.readouterr()
    assert "failed" not in said.out + said.err and "Traceback" not in said.out + said.err
    assert (await edge.hook())[0] == 200


async def test_who_goes_away_in_the_middle_of_a_stream_is_no_error(
    edge: Edge, capfd: pytest.CaptureFixture[str]
) -> None:
    body = b'{"user_id": "u", "message": "wait"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
    head = f"POST /v1/chat/stream HTTP/1.1\r\nX-API-KEY: good\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(reader.readuntil(b"event: delta"), 30)
    writer.transport.abort()
    async with asyncio.timeout(30):
        while not edge.dialog.abandoned:  # nobody goes on asking for whom nobody waits
            await asyncio.sleep(0.02)
    said = capfd.readouterr()
    assert "failed" not in said.out + said.err and "Traceback" not in said.out + said.err


async def test_a_channel_of_another_kind_is_a_404(edge: Edge) -> None:
    assert (await edge.hook(channel="api"))[0] == 404


async def test_the_path_of_the_source_document_goes_to_the_channel_of_the_setting(edge: Edge) -> None:
    status, _, _ = await edge.hook(path="/webhook/chat2desk")
    assert (status, edge.dialog.submitted[0].channel_id) == (200, "c2d")


async def test_a_disabled_channels_message_is_stored_as_rejected(edge: Edge) -> None:
    assert (await edge.hook(channel="off"))[0] == 200
    assert edge.dialog.submitted[0].rejection == dialog_pb2.REJECTION_REASON_CHANNEL_DISABLED


async def test_bad_bodies_are_told_apart(edge: Edge) -> None:
    assert (await edge.hook(b"{"))[0] == 400
    assert (await edge.hook(b"x" * 1_000_001))[0] == 413
    status, body, _ = await edge.hook({"client_id": None})
    assert (status, body["field"]) == (422, "client_id")


async def test_storage_away_is_a_503_that_says_when_to_come_back(edge: Edge) -> None:
    edge.dialog.error = storage_unavailable("Postgres")
    status, body, headers = await edge.hook()
    assert (status, body["reason"], headers["retry-after"]) == (503, "STORAGE_UNAVAILABLE", "1")


async def test_our_own_echoes_are_ignored_and_statuses_go_to_delivery(edge: Edge) -> None:
    assert (await edge.hook({"hook_type": "outbox"}))[:2] == (200, {"message_id": None, "duplicate": False})
    assert (await edge.hook({"hook_type": "outbox_status", "message_id": 5, "status": "delivered"}))[0] == 200
    assert not edge.dialog.submitted
    assert edge.delivery.statuses[0].status == delivery_pb2.PROVIDER_STATUS_DELIVERED


async def test_chat_answers_with_reply_tokens_and_quota(edge: Edge) -> None:
    status, body, _ = await edge.chat({"telegram_id": 5, "message": "hi"})
    assert status == 200
    assert body == {"message_id": "m1", "reply": "Hello", "tokens_used": 15, "remaining_today": 29}
    assert edge.dialog.chats[0].sender.identity.kind == identity_pb2.IDENTITY_KIND_TELEGRAM


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"message": "hi"}, "telegram_id"),
        ({"telegram_id": 1, "user_id": "a", "message": "hi"}, "telegram_id"),
        ({"telegram_id": "x", "message": "hi"}, "telegram_id"),
        ({"telegram_id": 1}, "message"),
        ({"telegram_id": 1, "message": "  "}, "message"),
        ({"user_id": "", "message": "hi"}, "user_id"),
        ({"user_id": " \t ", "message": "hi"}, "user_id"),
        (b"nonsense", "$"),
    ],
)
async def test_a_bad_chat_body_is_a_422_that_names_the_field(edge: Edge, body: Any, name: str) -> None:
    status, problem, _ = await edge.chat(body)
    assert (status, problem["field"]) == (422, name)


async def test_blanks_around_a_user_id_make_no_other_person(edge: Edge) -> None:
    for user_id in ("bob", " bob\n"):
        assert (await edge.chat({"user_id": user_id, "message": "hi"}))[0] == 200
    assert [request.sender.identity.value for request in edge.dialog.chats] == ["bob", "bob"]


async def test_a_bad_key_is_a_401(edge: Edge) -> None:
    for key in ("bad", ""):
        status, body, _ = await edge.chat({"telegram_id": 1, "message": "hi"}, key=key)
        assert (status, body["reason"]) == (401, "INVALID_API_KEY")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ParleyError(Kind.EXHAUSTED, "LIMIT_EXCEEDED", "no more today", retry_after=61.5), 429),
        (ParleyError(Kind.UNAVAILABLE, "MODEL_UNAVAILABLE", "the model failed", metadata={"message_id": "m1"}), 502),
        (ParleyError(Kind.DEADLINE, "MODEL_TIMEOUT", "too slow", metadata={"message_id": "m1"}), 504),
        (ParleyError(Kind.DEADLINE, "STILL_WORKING", "later", metadata={"message_id": "m1"}), 504),
    ],
)
async def test_failed_chats_have_their_status(edge: Edge, error: ParleyError, status: int) -> None:
    edge.dialog.error = error
    answered, body, headers = await edge.chat({"telegram_id": 1, "message": "hi"})
    assert (answered, body["reason"]) == (status, error.reason)
    if status == 429:
        assert headers["retry-after"] == "62"
    else:
        assert body["message_id"] == "m1"


async def test_an_idempotency_key_is_the_persons_own(edge: Edge) -> None:
    key = {"Idempotency-Key": "k"}
    for person in (1, 1, 2):
        await edge.chat({"telegram_id": person, "message": "hi"}, **key)
    ids = [chat.request_id for chat in edge.dialog.chats]
    assert ids[0] == ids[1] != ids[2]


async def test_chat_streams_deltas_and_the_final_reply(edge: Edge) -> None:
    async with edge.http.post(
        edge.url + "/v1/chat/stream", json={"user_id": "u", "message": "hi"}, headers={"X-API-KEY": "good"}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = await response.text()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == ["delta", "reset", "done"]
    assert json.loads(text.rpartition("data: ")[2])["reply"] == "Hello"


async def test_a_stream_that_fails_before_its_first_text_has_the_status(edge: Edge) -> None:
    edge.dialog.error = ParleyError(Kind.EXHAUSTED, "LIMIT_EXCEEDED", "no more today", retry_after=5)
    async with edge.http.post(
        edge.url + "/v1/chat/stream", json={"user_id": "u", "message": "hi"}, headers={"X-API-KEY": "good"}
    ) as response:
        assert response.status == 429


async def test_health_has_a_word_for_everybody_and_the_counts_for_operators(
    edge: Edge, operator_tokens: TokenSource
) -> None:
    async with edge.http.get(edge.url + "/health") as response:
        body = await response.json()
    assert response.status == 200
    assert body["services"] == {"dialog": "ok", "delivery": "ok", "context": "ok", "limits": "ok"}
    assert body["queue"] == "ok" and "edge" not in body
    await edge.hook(secret="wrong")
    token = operator_tokens.token("edge")
    async with edge.http.get(edge.url + "/health", headers={"Authorization": f"Bearer {token}"}) as response:
        body = await response.json()
    assert (body["queue"]["inbox_waiting"], body["queue"]["outbox_waiting"]) == (3, 4)
    assert body["edge"]["failures"] == {"webhook_secret": 1} and body["edge"]["connections"] >= 1
    async with edge.http.get(edge.url + "/health/ready") as response:
        assert response.status == 200


async def test_the_counts_are_for_a_token_of_every_tenant(edge: Edge, tokens_as: Callable[..., TokenSource]) -> None:
    for token, status in (("nonsense", 401), (tokens_as("integration", tenants=("demo",)).token("edge"), 403)):
        async with edge.http.get(edge.url + "/health", headers={"Authorization": f"Bearer {token}"}) as response:
            assert (response.status, response.content_type) == (status, "application/problem+json")


async def test_many_who_ask_for_health_at_once_ask_once(edge: Edge) -> None:
    async def ask() -> int:
        async with edge.http.get(edge.url + "/health") as response:
            return response.status

    assert set(await asyncio.gather(*(ask() for _ in range(50)))) == {200}
    assert edge.dialog.stats <= 2  # a second may have passed


async def test_what_nobody_could_ask_for_is_unknown_not_down(make_settings: Callable[..., Any]) -> None:
    """Redis and Postgres are not to blame when the services that would tell of them do not answer."""
    names = ("dialog", "delivery", "context", "limits")
    addresses = {f"{name}_address": "127.0.0.1:9" for name in names}
    settings = make_settings(EdgeSettings, edge_port=0, drain_seconds=0.1, **addresses)
    async with running("edge", settings, build) as service, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{await port_of(service)}/health") as response:
            body = await response.json()
    assert response.status == 503
    assert (body["status"], body["postgres"], body["redis"], body["queue"]) == ("down", "unknown", "unknown", "unknown")
    assert set(body["services"].values()) == {"down"}


async def test_the_edge_says_what_it_is(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/") as response:
        assert (await response.json())["name"] == "parley"
    async with edge.http.get(edge.url + "/", headers={"accept": "text/html"}) as response:
        assert "<h1>Parley</h1>" in await response.text()
    async with edge.http.get(edge.url + "/openapi.json") as response:
        document = await response.json()
    assert {"/webhooks/chat2desk/{channel_id}", "/v1/chat/send", "/v1/chat/stream"} <= document["paths"].keys()
    schemas = document["components"]["schemas"].keys()
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document))) == schemas


async def test_the_page_of_documentation_shows_fields_authentication_and_errors_and_loads_nothing(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/docs") as response:
        page = await response.text()
        assert "default-src 'none'" in response.headers["content-security-policy"]
    for shown in (
        "X-API-KEY",
        "X-Webhook-Secret",
        "telegram_id",
        "client.phone",
        "attachments[].link",
        "INVALID_SIGNATURE",
    ):
        assert f">{shown}<" in page
    assert "<script" not in page and not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert f"curl -sS {edge.url}/v1/chat/send" in page
    for evil in ("x/'; reboot #", 'x"><script>', "a b"):
        async with edge.http.get(edge.url + "/docs", headers={"Host": evil}) as response:
            assert "curl -sS http://127.0.0.1:8080/v1/chat/send" in await response.text()


async def test_every_answer_of_the_document_has_an_example_and_every_field_a_description(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/openapi.json") as response:
        document = await response.json()
    schemes = document["components"]["securitySchemes"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert all(scheme in schemes for one in operation["security"] for scheme in one)
            for status, answer in operation["responses"].items():
                ((kind, content),) = answer["content"].items()
                assert content["example"] and (kind == "application/problem+json") == ("reason" in content["example"])
                if kind == "application/problem+json":
                    assert content["example"]["status"] == int(status)
    for schema in document["components"]["schemas"].values():
        assert all("description" in field or "enum" in field for field in schema["properties"].values())


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
async def test_the_commands_of_the_documentation_work_when_pasted(
    edge: Edge, operator_tokens: TokenSource, tmp_path: Path
) -> None:
    edge.delivery.channels["demo-chat2desk"] = channel("demo-chat2desk")
    (tmp_path / "demo.json").write_text(json.dumps({"api": {"key": "good"}, "chat2desk": {"secret": SECRET}}))
    (tmp_path / "operator.token").write_text(operator_tokens.token("edge"))
    async with edge.http.get(edge.url + "/docs") as response:
        page = await response.text()
    commands = [html.unescape(command) for command in re.findall(r"Try it</h4><pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(commands) == 7
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=subprocess.PIPE, env={**os.environ, "PARLEY_HOME": str(tmp_path)}
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0 and said and "reason" not in said, command + said
    assert [chat.content.text for chat in edge.dialog.chats] and len(edge.dialog.submitted) >= 1


async def test_other_methods_and_paths_are_problems_too(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/webhooks/chat2desk/c2d") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
    async with edge.http.get(edge.url + "/nothing") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_a_callers_trace_context_is_linked_and_not_continued(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from outside says neither whose trace is written into nor what is recorded."""
    recorded: list[Span] = []
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded))
    foreign = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    await edge.chat({"telegram_id": 5, "message": "hi"}, traceparent=foreign)
    hook = {"X-Webhook-Secret": SECRET, "traceparent": foreign}
    async with edge.http.post(f"{edge.url}/webhooks/chat2desk/c2d", data=json.dumps(inbox()), headers=hook) as response:
        assert response.status == 200
    for name in ("POST /v1/chat/send", "POST /webhooks/chat2desk/{channel_id}"):
        span = next(span for span in recorded if span.name == name)
        assert span.trace_id != (0xABC).to_bytes(16)
        assert not span.parent_span_id
        assert [link.span_id for link in span.links] == [(0xDEF).to_bytes(8)]
