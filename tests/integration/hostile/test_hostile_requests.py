"""SEC: whatever a request holds, no service answers with a fault of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1 import content_pb2, identity_pb2
from parley.context.v1 import context_pb2
from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, tenant_pb2
from parley.limits.v1 import limits_pb2

from parley_client.channel import Connection, connect
from parley_client.tokens import TokenSource
from services.context.settings import ContextSettings
from services.context.wiring import build as build_context
from services.delivery.settings import DeliverySettings
from services.delivery.wiring import build as build_delivery
from services.dialog.settings import DialogSettings
from services.dialog.wiring import build as build_dialog
from services.limits.settings import LimitsSettings
from services.limits.wiring import build as build_limits
from services.runtime.methods import callers_of, is_batch
from services.runtime.service import Running, running
from services.telemetry.settings import TelemetrySettings
from services.telemetry.wiring import build as build_telemetry
from tests.contract.test_access import METHODS
from tests.support.hostile import good, spoiled, spoiled_often

OURS = {"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS", "UNAVAILABLE"}
"""Codes that blame the service."""
AT_ONCE = 16
BATCHES = 7
"""Of the spoiled items of a batch one in so many is tried: their single twins are tried all."""
OFTEN = 40
"""Requests of each method with several spoiled fields."""
TENANT, BOT, CHANNEL = "acme", "bot", "channel"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_ids = itertools.count(1)


def fresh() -> str:
    return f"r{next(_ids)}"


def at() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC))
    return stamp


def uuid() -> str:
    return str(UUID(int=next(_ids)))


VALUES: Mapping[str, Callable[[], Any]] = {
    "tenant_id": lambda: TENANT,
    "bot_id": lambda: BOT,
    "channel_id": lambda: CHANNEL,
    "conversation_id": uuid,
    "contact_id": uuid,
    "message_id": uuid,
    "delivery_id": uuid,
    "chat_id": fresh,
    "request_id": fresh,
    "dedupe_key": fresh,
    "provider_message_id": fresh,
    "text": lambda: "hello",
    "value": lambda: "77",
    "resource": lambda: "model.turn",
    "rule_id": fresh,
    "reservation_id": lambda: "x",
    "key_id": lambda: "x",
    "key": lambda: "pk_x",
    "trace_id": lambda: "ab" * 16,
    "at": at,
    "limit": lambda: 5,
    "time_zone": lambda: "UTC",
    "window": lambda: Duration(seconds=60),
    "parley.limits.v1.Rule.scope": lambda: limits_pb2.RULE_SCOPE_BOT,
    "parley.limits.v1.Rule.daily_quota": lambda: limits_pb2.DailyQuota(limit=5, time_zone="UTC"),
    "parley.limits.v1.Rule.sliding_window": lambda: limits_pb2.SlidingWindow(limit=5, window=Duration(seconds=60)),
    "parley.limits.v1.Rule.calendar_quota": lambda: limits_pb2.CalendarQuota(
        limit=5, period=limits_pb2.CALENDAR_PERIOD_DAY
    ),
    "parley.limits.v1.Rule.token_bucket": lambda: limits_pb2.TokenBucket(limit=5, period=Duration(seconds=60)),
    "parley.limits.v1.Rule.concurrency": lambda: limits_pb2.Concurrency(limit=5),
    "parley.limits.v1.Rule.budget": lambda: limits_pb2.Budget(
        limit=5, period=limits_pb2.CALENDAR_PERIOD_DAY, unit="tokens"
    ),
    "amounts": lambda: [limits_pb2.Amount(unit="tokens", value=5)],
    "parley.limits.v1.Selector.contact_id": uuid,
    "parley.limits.v1.UpdateRuleRequest.update_mask": lambda: FieldMask(paths=["shadow"]),
    "failure_mode": lambda: limits_pb2.FAILURE_MODE_OPEN,
    "parley.common.v1.Identity.kind": lambda: identity_pb2.IDENTITY_KIND_PHONE,
    "parley.common.v1.Identity.value": lambda: "+996700123456",
    "parley.common.v1.Sender.also_known_as": lambda: [
        identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_TELEGRAM, value=fresh())
    ],
    "attachments": lambda: [content_pb2.Attachment(kind=content_pb2.ATTACHMENT_KIND_IMAGE)],
    "parley.delivery.v1.CreateChannelRequest.channel": lambda: channel_pb2.Channel(
        tenant_id=TENANT, channel_id=fresh(), provider=channel_pb2.PROVIDER_API, bot_id=BOT
    ),
    "parley.delivery.v1.Channel.provider": lambda: channel_pb2.PROVIDER_API,
    "parley.delivery.v1.ChannelSecrets.token": lambda: "token",
    "parley.delivery.v1.UpdateChannelRequest.update_mask": lambda: FieldMask(paths=["bot_id", "api_base"]),
    "parley.delivery.v1.DeleteChannelRequest.channel_id": fresh,
    "parley.delivery.v1.DisableChannelRequest.channel_id": fresh,
    "parley.delivery.v1.ReportStatusRequest.status": lambda: 2,
    "parley.dialog.v1.Bot.form": lambda: bot_pb2.FormFlow(form_id="water-order"),
    "parley.dialog.v1.CreateBotRequest.bot": lambda: bot_pb2.Bot(
        tenant_id=TENANT, bot_id=fresh(), form=bot_pb2.FormFlow(form_id="water-order")
    ),
    "parley.dialog.v1.UpdateBotRequest.update_mask": lambda: FieldMask(
        paths=["display_name", "dialog_ttl", "debounce", "owner", "locale", "form"]
    ),
    "parley.dialog.v1.DeleteBotRequest.bot_id": fresh,
    "parley.dialog.v1.DisableBotRequest.bot_id": fresh,
    "parley.dialog.v1.RecordOutcomeRequest.state": lambda: dialog_pb2.REPLY_STATE_SENT,
    "parley.dialog.v1.CreateTenantRequest.tenant": lambda: tenant_pb2.Tenant(tenant_id=fresh()),
    "scopes": lambda: [tenant_pb2.API_KEY_SCOPE_CHAT],
    "parley.context.v1.SaveContextRequest.changes": lambda: context_pb2.Snapshot(
        client=context_pb2.ClientData(name="Ann"), dialog=context_pb2.DialogData(flow="f", step="s")
    ),
    "parley.context.v1.SaveContextRequest.update_mask": lambda: FieldMask(
        paths=["client", "dialog", "messages", "preferences"]
    ),
    "parley.context.v1.SaveContextRequest.append_messages": lambda: [
        context_pb2.HistoryEntry(role=context_pb2.ROLE_USER, text="hi", at=at())
    ],
}


class World:
    """All services of one process, and connections as the callers that their methods name."""

    def __init__(self, tokens_as: Callable[..., TokenSource]) -> None:
        self._tokens_as = tokens_as
        self.services: dict[str, Running] = {}
        self.stack = AsyncExitStack()
        self._connections: dict[tuple[str, str], Connection] = {}

    async def start(self, name: str, settings: Any, build: Any) -> str:
        self.services[name] = await self.stack.enter_async_context(running(name, settings, build))
        return self.services[name].address

    def connection(self, name: str, caller: str) -> Connection:
        key = (name, caller)
        if key not in self._connections:
            made = connect(self.services[name].address, audience=name, tokens=self._tokens_as(caller))
            self.stack.push_async_callback(made.close)
            self._connections[key] = made
        return self._connections[key]

    async def call(self, method: MethodDescriptor, request: Any, seconds: float = 0.3) -> list[str]:
        """The names of the status codes of a call, or of its items when it is a batch. `seconds`: of a stream."""
        service = method.containing_service.full_name
        connection = self.connection(service.split(".")[1], min(callers_of(method) - {"integration"}))
        kind = "unary_stream" if method.server_streaming else "unary_unary"
        reader = GetMessageClass(method.output_type).FromString
        writer = GetMessageClass(method.input_type).SerializeToString
        call: Any = getattr(connection.channel, kind)(
            f"/{service}/{method.name}", request_serializer=writer, response_deserializer=reader
        )
        under_way = call(
            request, metadata=connection.authorization(), timeout=seconds if method.server_streaming else 30
        )
        try:
            if method.server_streaming:
                async for _ in under_way:
                    pass
                return ["OK"]
            response = await under_way
        except grpc.aio.AioRpcError as error:
            return [error.code().name]
        if not is_batch(method.input_type):
            return ["OK"]
        return [_CODES[each.error.code] if each.HasField("error") else "OK" for each in response.results]


@pytest.fixture
async def world(make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]) -> AsyncIterator[World]:
    world = World(tokens_as)
    async with world.stack:
        few = {"drain_seconds": 2.0, "postgres_pool_size": 4}
        addresses = {
            "context_address": await world.start("context", make_settings(ContextSettings, **few), build_context),
            "limits_address": await world.start("limits", make_settings(LimitsSettings, **few), build_limits),
        }
        delivery = make_settings(DeliverySettings, **few, **addresses, dialog_address="127.0.0.1:1")
        addresses["delivery_address"] = await world.start("delivery", delivery, build_delivery)
        await world.start("dialog", make_settings(DialogSettings, **few, **addresses), build_dialog)
        await world.start("telemetry", make_settings(TelemetrySettings, **few, otlp_port=0), build_telemetry)
        await prepare(world)
        yield world


async def prepare(world: World) -> None:
    by_name = {method.full_name: method for method in METHODS}
    for name, request in (
        ("parley.dialog.v1.TenantService.CreateTenant", {"tenant": tenant_pb2.Tenant(tenant_id=TENANT)}),
        ("parley.dialog.v1.BotService.CreateBot", {"bot": good(bot_pb2.Bot.DESCRIPTOR, VALUES)}),
        ("parley.delivery.v1.ChannelService.CreateChannel", {"channel": good(channel_pb2.Channel.DESCRIPTOR, VALUES)}),
    ):
        method = by_name[name]
        made = good(method.input_type, VALUES)
        for field, value in request.items():
            getattr(made, field).CopyFrom(value)
        assert await world.call(method, made) == ["OK"]


def batches(method: MethodDescriptor) -> Iterator[tuple[str, Any]]:
    """A batch of spoiled items, each beside a good one."""
    item = method.input_type.fields_by_name["items"].message_type
    assert item is not None
    inner = item.fields_by_name["request"].message_type
    assert inner is not None
    for path, request in spoiled(inner, VALUES):
        batch: Any = GetMessageClass(method.input_type)()
        for each in (request, good(inner, VALUES)):
            batch.items.add().request.CopyFrom(each)
        yield path, batch


def cases(method: MethodDescriptor) -> list[tuple[str, Any]]:
    if is_batch(method.input_type):
        return list(batches(method))[::BATCHES]
    often = spoiled_often(method.input_type, VALUES, OFTEN, seed=len(method.full_name))
    return [("good", good(method.input_type, VALUES)), *spoiled(method.input_type, VALUES), *often]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", sorted({method.containing_service.full_name for method in METHODS}))
async def test_no_request_is_answered_with_a_fault_of_ours(world: World, service: str) -> None:
    faults, answered = [], 0
    for method in METHODS:
        if method.containing_service.full_name != service:
            continue
        tried = cases(method)
        for start in range(0, len(tried), AT_ONCE):
            some = tried[start : start + AT_ONCE]
            answers = await asyncio.gather(*(world.call(method, request) for _, request in some))
            for (path, _), codes in zip(some, answers, strict=True):
                answered += codes.count("OK")
                if OURS & set(codes):
                    faults.append(f"{method.name}: {path}: {', '.join(codes)}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    assert answered, "some requests are good"
    assert not [running for running in world.services.values() if running.failed.done()]


def with_values(name: str, **fields: Any) -> tuple[MethodDescriptor, Any]:
    method = next(method for method in METHODS if method.name == name)
    request = good(method.input_type, VALUES)
    for field, value in fields.items():
        setattr(request, field, value)
    return method, request


async def test_what_is_not_acceptable_is_the_callers_to_mend(world: World) -> None:
    """A phone that is none, 36 dashes for an id, a NUL, and a page token of somebody's own: all were INTERNAL."""
    chat, request = with_values("Chat")
    request.sender.identity.value = "+"
    assert await world.call(chat, request, seconds=20) == ["INVALID_ARGUMENT"]
    channel, request = with_values("CreateChannel")
    request.channel.api_base = "https://api\x00.example"
    assert await world.call(channel, request) == ["INVALID_ARGUMENT"]
    for name, field, value in (
        ("ListDeliveries", "message_id", "-" * 36),
        ("ListMessages", "conversation_id", "-" * 36),
        ("SendMessage", "message_id", "-" * 36),
        ("ListChannels", "bot_id", "a\x00b"),
        ("ListBots", "page_token", "WyIwMDAwMDAwMDAwMDAwMDAwIiwgMV0"),
        ("ListMessages", "page_token", "W10"),
    ):
        method, request = with_values(name, **{field: value})
        assert await world.call(method, request) == ["INVALID_ARGUMENT"], name
