"""Channels over gRPC: changes, secrets, isolation, and the stream that edges mirror."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import pytest

from parley.delivery.v1 import channel_pb2 as pb
from parley.delivery.v1 import delivery_pb2

from parley_client.delivery import ChannelClient
from parley_client.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from services.delivery.usecases.mirror import ChannelMirror
from tests.integration.delivery.conftest import CHANNEL, SENT, TENANT, TOKEN, Delivery, World, message, until


def update(delivery: Delivery, *paths: str, request_id: str, token: str = "", **values: Any) -> pb.UpdateChannelRequest:
    channel: dict[str, Any] = {
        "tenant_id": TENANT,
        "channel_id": CHANNEL,
        "provider": pb.PROVIDER_CHAT2DESK,
        "bot_id": "water",
    }
    request = pb.UpdateChannelRequest(
        tenant_id=TENANT,
        channel=pb.Channel(**(channel | values)),
        secrets=pb.ChannelSecrets(token=token),
        request_id=request_id,
    )
    request.update_mask.paths.extend(paths)
    return request


async def get(client: ChannelClient, channel_id: str = CHANNEL, tenant: str = TENANT) -> pb.GetChannelResponse:
    return await client.get_channel(pb.GetChannelRequest(tenant_id=tenant, channel_id=channel_id))


async def test_a_secret_that_is_not_given_is_made_and_shown_to_edges_only(delivery: Delivery) -> None:
    made = await delivery.create_channel("another")
    assert len(made.webhook_secret) >= 32
    assert made.channel.enabled
    assert made.channel.has_token
    assert (await get(delivery.as_("edge")[1], "another", "")).webhook_secret == made.webhook_secret
    for caller in ("operator", "dialog", "integration"):
        assert (await get(delivery.as_(caller)[1], "another")).webhook_secret == ""


async def test_a_given_secret_is_kept(delivery: Delivery) -> None:
    client = delivery.as_("operator")[1]
    request = pb.CreateChannelRequest(
        tenant_id=TENANT,
        channel=pb.Channel(
            tenant_id=TENANT, channel_id="given", provider=pb.PROVIDER_CHAT2DESK, bot_id="water", enabled=False
        ),
        secrets=pb.ChannelSecrets(token="t", webhook_secret="given-secret"),
        request_id="create-given",
    )
    first = await client.create_channel(request)
    assert first.webhook_secret == "given-secret"
    assert first.channel.enabled, "what the service writes is ignored"
    assert await client.create_channel(request) == first, "the same request id gives the same answer"
    request.secrets.webhook_secret = "other-secret"
    with pytest.raises(AlreadyExists) as raised:
        await client.create_channel(request)
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_channel_ids_are_unique_over_all_tenants(delivery: Delivery) -> None:
    with pytest.raises(AlreadyExists) as raised:
        await delivery.create_channel(CHANNEL, "globex")
    assert raised.value.reason == "ALREADY_EXISTS"
    assert raised.value.metadata["id"] == CHANNEL


async def test_secrets_are_sealed_at_rest(delivery: Delivery, postgres_url: str) -> None:
    made = await delivery.create_channel("sealed")
    connection = await asyncpg.connect(postgres_url)
    try:
        for table in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'delivery'"):
            for row in await connection.fetch(f"SELECT * FROM delivery.{table[0]}"):
                for value in row:
                    stored = value if isinstance(value, bytes) else str(value).encode()
                    assert made.webhook_secret.encode() not in stored, table
                    assert b"token-1" not in stored, table
        # Sealed bytes that are moved to another channel do not open there.
        await connection.execute(
            "UPDATE delivery.channels SET secrets = secrets || (SELECT jsonb_build_object('token', secrets -> 'token')"
            " FROM delivery.channels WHERE channel_id = $1) WHERE channel_id = $2",
            CHANNEL,
            "sealed",
        )
    finally:
        await connection.close()
    moved = await get(delivery.as_("edge")[1], "sealed")
    assert moved.channel.broken_reason == "its secrets cannot be opened"
    assert moved.webhook_secret != made.webhook_secret
    mended = update(delivery, request_id="mend", token="token-2", channel_id="sealed")
    assert (await delivery.as_("operator")[1].update_channel(mended)).channel.broken_reason == ""
    other = await delivery.client.send_message(message("other channels go on"))
    await delivery.until_state(other.delivery_id, SENT)


async def test_only_what_the_mask_names_is_changed(delivery: Delivery, world: World) -> None:
    client = delivery.as_("operator")[1]
    before = (await get(client)).channel
    request = update(delivery, "bot_id", request_id="1", bot_id="salon", api_base="http://nowhere")
    changed = (await client.update_channel(request)).channel
    assert (changed.bot_id, changed.api_base) == ("salon", world.receiver.base)
    assert changed.revision > before.revision
    assert (await client.update_channel(request)).channel == changed
    for wrong in ("enabled", "provider", "no_such_field"):
        with pytest.raises(InvalidArgument) as raised:
            await client.update_channel(update(delivery, wrong, request_id=wrong))
        assert raised.value.reason == "INVALID_UPDATE_MASK"
    with pytest.raises(InvalidArgument):
        await client.update_channel(update(delivery, request_id="nothing"))


async def test_a_new_token_is_used_for_the_next_call(delivery: Delivery, world: World) -> None:
    secret = (await get(delivery.as_("edge")[1])).webhook_secret
    await delivery.as_("operator")[1].update_channel(update(delivery, request_id="1", token="token-2"))
    assert (await get(delivery.as_("edge")[1])).webhook_secret == secret, "an empty secret replaces nothing"
    answer = await delivery.client.send_message(message("text"))
    await delivery.until_state(answer.delivery_id, SENT)
    assert [call.token for call in world.receiver.calls] == ["token-2"]


async def test_a_change_that_was_answered_is_in_force_however_late_the_news_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChannelMirror, "nudge", lambda _: None)
    async with world.serving(delivery_channel_poll_seconds=60.0) as delivery:
        await delivery.create_channel()
        for token in (TOKEN, "token-2"):
            await delivery.as_("operator")[1].update_channel(update(delivery, request_id=token, token=token))
            answer = await delivery.client.send_message(message("text"))
            await delivery.until_state(answer.delivery_id, SENT)
        assert [call.token for call in world.receiver.calls] == [TOKEN, "token-2"]


async def test_a_new_token_mends_a_broken_channel(delivery: Delivery, world: World) -> None:
    async def check(call: Any) -> Any:
        from aiohttp import web

        return world.receiver.ok() if call.token == "token-2" else web.json_response({}, status=401)

    world.receiver.answer = check
    answer = await delivery.client.send_message(message("text"))
    operator = delivery.as_("operator")[1]
    async with asyncio.timeout(30):
        while not (await get(operator)).channel.broken_reason:
            await asyncio.sleep(0.02)
    await operator.update_channel(update(delivery, request_id="1", token="token-2"))
    await delivery.until_state(answer.delivery_id, SENT)


@pytest.mark.parametrize(
    "api_base",
    [
        "http://10.0.0.1",
        "https://169.254.169.254",
        "https://[::ffff:127.0.0.1]",
        "https://user:word@api.example",
        "https://api.example/?to=x",
        "https://api.example/#x",
        "https://api.example:99999",
        "https://api..example",
        "https://api\x00.example",
    ],
)
async def test_an_address_that_the_egress_policy_refuses_is_named(delivery: Delivery, api_base: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await delivery.create_channel("elsewhere", api_base=api_base)
    assert raised.value.metadata["field"] == "channel.api_base"
    request = update(delivery, "api_base", request_id="1", token="token-2", api_base=api_base)
    with pytest.raises(InvalidArgument):
        await delivery.as_("operator")[1].update_channel(request)


async def test_a_new_address_needs_the_token_again(delivery: Delivery, world: World) -> None:
    """A write-only secret cannot be read by moving the channel to an address of one's own."""
    client = delivery.as_("integration", (TENANT,))[1]
    elsewhere = world.receiver.base.replace("127.0.0.1", "localhost")
    with pytest.raises(InvalidArgument) as raised:
        await client.update_channel(update(delivery, "api_base", request_id="1", api_base=elsewhere))
    assert raised.value.metadata["field"] == "secrets.token"
    assert (await get(client)).channel.api_base == world.receiver.base
    same = update(delivery, "api_base", "bot_id", request_id="2", api_base=world.receiver.base, bot_id="salon")
    assert (await client.update_channel(same)).channel.bot_id == "salon", "the address stays"
    moved = update(delivery, "api_base", request_id="3", api_base=elsewhere, token="token-2")
    assert (await client.update_channel(moved)).channel.api_base == elsewhere
    answer = await delivery.client.send_message(message("text"))
    await delivery.until_state(answer.delivery_id, SENT)
    assert [call.token for call in world.receiver.calls] == ["token-2"]


@pytest.mark.parametrize("wrong", ["redirect", "https://127.0.0.1:1/\u043f", "http://a..example", "http://10.0.0.1"])
async def test_a_wrong_address_breaks_the_channel_until_it_is_corrected(
    delivery: Delivery, world: World, postgres_url: str, wrong: str
) -> None:
    """Whatever passes creation, in this version or an earlier one: the channel says why, and no part is lost."""
    operator = delivery.as_("operator")[1]
    if wrong == "redirect":
        world.receiver.fail(302, times=99, Location="https://elsewhere.example")
    else:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(
            "UPDATE delivery.channels SET settings = jsonb_build_object('api_base', $1::text),"
            " revision = nextval('delivery.channel_revisions')",
            wrong,
        )
        await connection.close()
        await operator.update_channel(update(delivery, "bot_id", request_id="0", bot_id="salon"))  # the service looks
    answer = await delivery.client.send_message(message("text"))
    async with asyncio.timeout(30):
        while not (reason := (await get(operator)).channel.broken_reason):
            await asyncio.sleep(0.02)
    assert "api_base" in reason

    async def ended() -> bool:
        attempts = (await delivery.get(answer.delivery_id)).parts[0].attempts
        return [attempt.failure for attempt in attempts] == [delivery_pb2.FAILURE_KIND_FATAL]

    await until(ended)
    world.receiver.answer = None
    mended = update(delivery, "api_base", request_id="1", api_base=world.receiver.base, token="token-2")
    assert (await operator.update_channel(mended)).channel.broken_reason == ""
    sent = await delivery.until_state(answer.delivery_id, SENT, seconds=20)
    assert [call.token for call in world.receiver.calls][-1] == "token-2"
    assert not sent.parts[0].possibly_duplicate


async def test_channels_are_listed_by_page_and_bot(delivery: Delivery) -> None:
    for number in range(4):
        await delivery.create_channel(f"listed-{number}", bot_id=f"bot-{number % 2}")
    await delivery.create_channel("of-another", "globex")
    client = delivery.as_("integration", (TENANT,))[1]
    request = pb.ListChannelsRequest(tenant_id=TENANT, page_size=3)
    first = await client.list_channels(request)
    request.page_token = first.next_page_token
    second = await client.list_channels(request)
    ids = [channel.channel_id for channel in (*first.channels, *second.channels)]
    assert ids == [CHANNEL, "listed-0", "listed-1", "listed-2", "listed-3"]
    of_bot = await client.list_channels(pb.ListChannelsRequest(tenant_id=TENANT, bot_id="bot-1"))
    assert [channel.channel_id for channel in of_bot.channels] == ["listed-1", "listed-3"]
    request.page_token = "nonsense"
    with pytest.raises(InvalidArgument) as raised:
        await client.list_channels(request)
    assert raised.value.reason == "INVALID_PAGE_TOKEN"


async def test_another_tenant_finds_and_changes_nothing(delivery: Delivery) -> None:
    client = delivery.as_("integration", ("globex",))[1]
    with pytest.raises(NotFound):
        await get(client, tenant="globex")
    with pytest.raises(PermissionDenied):
        await get(client)
    with pytest.raises(PermissionDenied):
        await get(client, tenant="")
    calls: list[tuple[Any, Any]] = [
        (client.delete_channel, pb.DeleteChannelRequest),
        (client.enable_channel, pb.EnableChannelRequest),
        (client.disable_channel, pb.DisableChannelRequest),
    ]
    for call, request in calls:
        with pytest.raises(NotFound) as raised:
            await call(request(tenant_id="globex", channel_id=CHANNEL, request_id=request.__name__))
        assert raised.value.reason == "CHANNEL_NOT_FOUND"
    assert (await get(delivery.as_("operator")[1])).channel.enabled


async def next_event(stream: AsyncGenerator[pb.WatchChannelsResponse, None]) -> pb.WatchChannelsResponse:
    async with asyncio.timeout(30):
        return await anext(stream)


@pytest.mark.parametrize("redis", ["there", "away"])
async def test_watchers_on_every_replica_hear_of_each_change(world: World, redis: str) -> None:
    away = {"redis_url": "unix:///nowhere/redis.sock"} if redis == "away" else {}
    async with world.serving(**away) as first, world.serving(**away) as second:
        made = await first.create_channel()
        stream = second.as_("edge")[1].watch_channels(pb.WatchChannelsRequest())
        event = await next_event(stream)
        if event.HasField("ready"):  # the second replica had not looked yet
            event = await next_event(stream)
        else:
            assert (await next_event(stream)).HasField("ready")
        assert event.changed.webhook_secret == made.webhook_secret
        assert event.changed.channel.channel_id == CHANNEL
        operator = first.as_("operator")[1]
        await operator.disable_channel(pb.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="1"))
        event = await next_event(stream)
        assert not event.changed.channel.enabled
        assert event.changed.channel.revision > made.channel.revision
        await operator.delete_channel(pb.DeleteChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="2"))
        assert (await next_event(stream)).deleted.channel_id == CHANNEL
        await stream.aclose()


async def test_only_edges_may_watch(delivery: Delivery) -> None:
    with pytest.raises(PermissionDenied):
        await next_event(delivery.as_("operator")[1].watch_channels(pb.WatchChannelsRequest()))
    with pytest.raises(PermissionDenied):
        await next_event(delivery.as_("edge", (TENANT,))[1].watch_channels(pb.WatchChannelsRequest()))
