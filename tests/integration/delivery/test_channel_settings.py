"""A channel's settings are its provider's, and its secrets have names."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from parley.delivery.v1 import channel_pb2 as pb

from parley_client.errors import InvalidArgument
from services.delivery.providers.registry import KINDS
from tests.integration.delivery.conftest import CHANNEL, SENT, TENANT, TOKEN, Delivery, World, message


def create(**channel: Any) -> pb.CreateChannelRequest:
    values: dict[str, Any] = {
        "tenant_id": TENANT,
        "channel_id": "typed",
        "provider": pb.PROVIDER_CHAT2DESK,
        "bot_id": "water",
    }
    return pb.CreateChannelRequest(tenant_id=TENANT, channel=pb.Channel(**(values | channel)), request_id="create")


def update(*paths: str, **channel: Any) -> pb.UpdateChannelRequest:
    values: dict[str, Any] = {
        "tenant_id": TENANT,
        "channel_id": CHANNEL,
        "provider": pb.PROVIDER_CHAT2DESK,
        "bot_id": "water",
    }
    request = pb.UpdateChannelRequest(tenant_id=TENANT, channel=pb.Channel(**(values | channel)), request_id="update")
    request.update_mask.paths.extend(paths)
    return request


def chat2desk(api_base: str) -> pb.ChannelSettings:
    return pb.ChannelSettings(chat2desk=pb.Chat2DeskSettings(api_base=api_base))


def test_every_provider_of_the_contract_has_a_kind_with_its_fields() -> None:
    """What the contract lets be set is what is stored."""
    providers = {value.number: value.name for value in pb.Provider.DESCRIPTOR.values if value.number}
    assert providers.keys() == KINDS.keys()
    for provider, kind in KINDS.items():
        field = pb.ChannelSettings.DESCRIPTOR.fields_by_number[provider]
        assert field.name == providers[provider].removeprefix("PROVIDER_").lower()
        assert field.message_type is not None
        assert tuple(field.message_type.fields_by_name) == kind.settings.__struct_fields__


async def until_ready(events: AsyncIterator[pb.WatchChannelsResponse]) -> AsyncIterator[pb.WatchChannelsResponse]:
    """The first round."""
    async for event in events:
        if event.HasField("ready"):
            return
        yield event


async def test_settings_and_secrets_by_name_are_kept_and_used(delivery: Delivery, world: World) -> None:
    operator, edge = delivery.as_("operator")[1], delivery.as_("edge")[1]
    request = create(settings=chat2desk(world.receiver.base))
    request.secrets.values["token"] = "named-token"
    made = await operator.create_channel(request)
    assert made.channel.settings.chat2desk.api_base == made.channel.api_base == world.receiver.base
    assert (made.channel.has_token, list(made.channel.secret_names)) == (True, ["token", "webhook_secret"])
    assert made.secrets.keys() == {"webhook_secret"} and made.secrets["webhook_secret"] == made.webhook_secret
    get = pb.GetChannelRequest(tenant_id=TENANT, channel_id="typed")
    assert (await edge.get_channel(get)).secrets == made.secrets
    assert not (await operator.get_channel(get)).secrets
    async with aclosing(edge.watch_channels(pb.WatchChannelsRequest())) as events:
        told = {event.changed.channel.channel_id: event.changed async for event in until_ready(events)}
    assert told["typed"].secrets == made.secrets
    assert await operator.create_channel(request) == made, "the same request id gives the same answer"
    sent = await delivery.client.send_message(message("text", channel_id="typed"))
    await delivery.until_state(sent.delivery_id, SENT)
    assert [call.token for call in world.receiver.calls] == ["named-token"]


async def test_a_channel_of_the_api_has_no_settings_and_no_secrets(delivery: Delivery) -> None:
    operator = delivery.as_("operator")[1]
    made = await operator.create_channel(create(provider=pb.PROVIDER_API))
    assert made.channel.settings.WhichOneof("provider") == "api"
    assert not made.secrets and not made.channel.secret_names


@pytest.mark.parametrize(
    ("channel", "secrets", "field"),
    [
        ({"settings": pb.ChannelSettings(api=pb.ApiSettings())}, {}, "channel.settings"),
        ({"settings": pb.ChannelSettings()}, {}, "channel.settings"),
        ({"settings": chat2desk("http://10.0.0.1")}, {}, "channel.settings"),
        ({"provider": pb.PROVIDER_API, "api_base": "https://x.example"}, {}, "channel.api_base"),
        ({}, {"app_secret": "x"}, "secrets.app_secret"),
        ({}, {"webhook_secret": "no/slash"}, "secrets.webhook_secret"),
        ({"provider": pb.PROVIDER_API}, {"token": "x"}, "secrets.token"),
    ],
)
async def test_what_does_not_fit_the_provider_is_refused_by_name(
    delivery: Delivery, channel: dict[str, Any], secrets: dict[str, str], field: str
) -> None:
    request = create(**channel)
    request.secrets.values.update(secrets)
    with pytest.raises(InvalidArgument) as raised:
        await delivery.as_("operator")[1].create_channel(request)
    assert raised.value.metadata["field"] == field
    assert "no/slash" not in str(raised.value)


@pytest.mark.parametrize("path", ["settings", "settings.chat2desk", "settings.chat2desk.api_base"])
async def test_new_settings_need_the_token_again_when_they_hold_a_new_address(
    delivery: Delivery, world: World, path: str
) -> None:
    operator = delivery.as_("operator")[1]
    elsewhere = world.receiver.base.replace("127.0.0.1", "localhost")
    moved = update(path, settings=chat2desk(elsewhere))
    with pytest.raises(InvalidArgument) as raised:
        await operator.update_channel(moved)
    assert raised.value.metadata["field"] == "secrets.token"
    same = update(path, settings=chat2desk(world.receiver.base))
    same.request_id = "same"
    assert (await operator.update_channel(same)).channel.api_base == world.receiver.base
    moved.secrets.values["token"] = TOKEN
    assert (await operator.update_channel(moved)).channel.settings == chat2desk(elsewhere)


@pytest.mark.parametrize("settings", [pb.ChannelSettings(api=pb.ApiSettings()), None])
async def test_a_channel_keeps_the_settings_of_its_provider(
    delivery: Delivery, settings: pb.ChannelSettings | None
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await delivery.as_("operator")[1].update_channel(update("settings", settings=settings))
    assert raised.value.metadata["field"] == "channel.settings"


async def test_a_mask_that_names_no_field_of_the_settings_is_refused(delivery: Delivery) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await delivery.as_("operator")[1].update_channel(update("settings.chat2desk.colour"))
    assert raised.value.reason == "INVALID_UPDATE_MASK"
