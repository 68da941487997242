"""Typing indicators and previews through the running service: beside the outbox, and never in a reply's way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest
from aiohttp import web

from parley.delivery.v1 import delivery_pb2

from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.providers.base import Signal
from services.delivery.providers.exchanges import Request
from services.delivery.providers.registry import PROVIDERS
from services.delivery.usecases import signals
from tests.integration.delivery.conftest import CHANNEL, SENT, TENANT, Call, Delivery, World, message, until


def show(signal: Signal, channel: Channel) -> Request:
    """A messenger's way to show signals."""
    body = {"client_id": signal.chat_id, "text": f"shown: {signal.preview or 'typing'}"}
    return Request(f"{channel.api_base}/v1/messages", {"Authorization": channel.token}, msgspec.json.encode(body))


@pytest.fixture
async def showing(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Delivery]:
    """A delivery service whose provider has signals."""
    for bound in ("PATIENCE", "LASTS"):  # a slow machine must not look like a slow provider
        monkeypatch.setattr(signals, bound, 60.0)
    monkeypatch.setitem(PROVIDERS, ProviderKind.CHAT2DESK, replace(PROVIDERS[ProviderKind.CHAT2DESK], signal=show))
    async with world.serving() as service:
        await service.create_channel()
        yield service


def typing(chat: str = "chat-1", tenant_id: str = TENANT, channel_id: str = CHANNEL) -> delivery_pb2.SendSignalRequest:
    return delivery_pb2.SendSignalRequest(
        tenant_id=tenant_id, channel_id=channel_id, chat_id=chat, typing=delivery_pb2.Typing()
    )


async def rows(delivery: Delivery) -> int:
    listed = await delivery.as_("operator")[0].list_deliveries(delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT))
    return len(listed.deliveries)


async def test_a_provider_without_signals_gets_none(delivery: Delivery) -> None:
    assert not (await delivery.client.send_signal(typing())).taken
    assert delivery.world.receiver.calls == []


async def test_signals_reach_the_provider_and_store_nothing(showing: Delivery) -> None:
    preview = typing("chat-2")
    preview.preview.text = "Здрав"
    for request in (typing(), preview):
        assert (await showing.client.send_signal(request)).taken
    receiver = showing.world.receiver
    await until(lambda: len(receiver.calls) == 2)
    assert sorted(receiver.texts()) == ["shown: typing", "shown: Здрав"]
    assert showing.world.limits.asked == [], "no slot of the rate is spent on them"
    assert await rows(showing) == 0


async def test_replies_do_not_wait_for_a_provider_that_is_slow_to_show_signals(showing: Delivery) -> None:
    receiver = showing.world.receiver
    let = asyncio.Event()

    async def answer(call: Call) -> web.StreamResponse:
        if call.text.startswith("shown"):
            await let.wait()
        return receiver.ok()

    receiver.answer = answer
    assert (await showing.client.send_signal(typing())).taken
    await until(lambda: receiver.texts() == ["shown: typing"])
    stored = await showing.client.send_message(message("a reply"))
    await showing.until_state(stored.delivery_id, SENT)
    let.set()


async def test_nobody_signals_to_the_channel_of_another_tenant(showing: Delivery) -> None:
    assert not (await showing.client.send_signal(typing(tenant_id="other"))).taken
    assert not (await showing.client.send_signal(typing(channel_id="nobody"))).taken
    assert showing.world.receiver.calls == []
