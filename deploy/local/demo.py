"""The demo tenant: made once, found again at each start, never overwritten."""

import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.protobuf import field_mask_pb2
from google.protobuf.duration_pb2 import Duration

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, tenant_pb2

from deploy.local.home import Home, read_json, write_json
from parley_client.channel import connect
from parley_client.delivery import ChannelClient
from parley_client.dialog import BotClient, TenantClient
from parley_client.errors import AlreadyExists
from parley_client.tokens import TokenSource

TENANT = "demo"
CHAT2DESK = "demo-chat2desk"
API = "demo-api"

ASSISTANT_PROMPT = """\
You help people who sell on online marketplaces. Answer questions on sales, stock, orders, reviews, returns, prices, \
advertising, product cards and the rules of marketplaces, and nothing else. When a question lies outside of that, say \
in one sentence that you help with marketplace sales only, and offer to go on with those. Do not invent figures about \
the person's shop: when you lack data, say which you need. Be brief and practical, and answer in the language of the \
question."""


@dataclass(frozen=True)
class Clients:
    """What seeding calls."""

    tenants: TenantClient
    bots: BotClient
    channels: ChannelClient


async def seed(home: Home, *, dialog: str, delivery: str, simulator_url: str, tokens: TokenSource) -> dict[str, Any]:
    """Make what is missing of the demo tenant, and return its secrets, as `demo.json` keeps them.

    `dialog` and `delivery` are addresses. Raises `CallError`.
    """
    async with (
        connect(dialog, audience="dialog", tokens=tokens) as to_dialog,
        connect(delivery, audience="delivery", tokens=tokens) as to_delivery,
    ):
        clients = Clients(TenantClient(to_dialog), BotClient(to_dialog), ChannelClient(to_delivery))
        await seed_tenant(clients)
        known = read_json(home.demo_file) or {}
        demo: dict[str, Any] = {"tenant": TENANT}
        demo["chat2desk"] = await seed_chat2desk(clients, known.get("chat2desk", {}), simulator_url)
        await ignore_existing(
            clients.channels.create_channel(create_channel(API, channel_pb2.PROVIDER_API, "assistant"))
        )
        demo["api"] = await seed_api_key(clients, known.get("api", {}))
    write_json(home.demo_file, demo)
    return demo


async def seed_tenant(clients: Clients) -> None:
    """The tenant and its bots."""
    tenant = tenant_pb2.Tenant(tenant_id=TENANT, display_name="Demo", time_zone="Asia/Bishkek", default_region="KG")
    await ignore_existing(
        clients.tenants.create_tenant(tenant_pb2.CreateTenantRequest(tenant=tenant, request_id=new_request()))
    )
    for bot in bots():
        await ignore_existing(
            clients.bots.create_bot(bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=new_request()))
        )


def bots() -> list[bot_pb2.Bot]:
    return [
        bot_pb2.Bot(
            tenant_id=TENANT,
            bot_id="water",
            display_name="Вода",
            locale="ru",
            form=bot_pb2.FormFlow(form_id="water-order"),
            dialog_ttl=Duration(seconds=24 * 3600),
        ),
        bot_pb2.Bot(
            tenant_id=TENANT,
            bot_id="assistant",
            display_name="Marketplace assistant",
            locale="ru",
            assistant=bot_pb2.AssistantFlow(system_prompt=ASSISTANT_PROMPT),
        ),
    ]


async def seed_chat2desk(clients: Clients, known: dict[str, Any], simulator_url: str) -> dict[str, Any]:
    """The Chat2Desk channel, sending to the simulator wherever that listens now.

    Secrets cannot be read back: when the file with them is gone, new ones replace the stored.
    """
    api_base = f"{simulator_url}/chat2desk"
    lost = not known.get("secret")
    stored = {
        "channel_id": CHAT2DESK,
        "token": known.get("token") or secrets.token_urlsafe(24),
        "secret": known.get("secret") or secrets.token_urlsafe(24),
    }
    given = channel_pb2.ChannelSecrets(token=stored["token"], webhook_secret=stored["secret"])
    request = create_channel(CHAT2DESK, channel_pb2.PROVIDER_CHAT2DESK, "water", api_base)
    request.secrets.CopyFrom(given)
    try:
        await clients.channels.create_channel(request)
    except AlreadyExists:
        found = await clients.channels.get_channel(
            channel_pb2.GetChannelRequest(tenant_id=TENANT, channel_id=CHAT2DESK)
        )
        moved = found.channel.api_base != api_base and is_local(found.channel.api_base)
        if moved or lost:
            update = channel_pb2.UpdateChannelRequest(tenant_id=TENANT, channel=found.channel, request_id=new_request())
            if moved:
                update.channel.api_base = api_base
                update.update_mask.CopyFrom(field_mask_pb2.FieldMask(paths=["api_base"]))
                update.secrets.token = stored["token"]  # a new address needs it again
            if lost:
                update.secrets.CopyFrom(given)
            await clients.channels.update_channel(update)
    return stored


async def seed_api_key(clients: Clients, known: dict[str, Any]) -> dict[str, Any]:
    """A key for `/v1/chat/*`: the one in the file while it holds, else a new one."""
    if known.get("key") and await is_valid(clients, str(known.get("key_id"))):
        return known
    made = await clients.tenants.create_api_key(
        tenant_pb2.CreateApiKeyRequest(
            tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id=API, request_id=new_request()
        )
    )
    return {"channel_id": API, "key": made.key, "key_id": made.api_key.key_id}


async def is_valid(clients: Clients, key_id: str) -> bool:
    token = ""
    while True:
        page = await clients.tenants.list_api_keys(
            tenant_pb2.ListApiKeysRequest(tenant_id=TENANT, page_size=200, page_token=token)
        )
        for key in page.api_keys:
            if key.key_id == key_id:
                return not key.HasField("revoked_at")
        token = page.next_page_token
        if not token:
            return False


def create_channel(
    channel_id: str, provider: channel_pb2.Provider.ValueType, bot_id: str, api_base: str = ""
) -> channel_pb2.CreateChannelRequest:
    channel = channel_pb2.Channel(
        tenant_id=TENANT, channel_id=channel_id, provider=provider, bot_id=bot_id, api_base=api_base
    )
    return channel_pb2.CreateChannelRequest(tenant_id=TENANT, channel=channel, request_id=new_request())


def is_local(api_base: str) -> bool:
    """Whether it points at a simulator, and not at a real provider that somebody has set."""
    return api_base.startswith(("http://127.0.0.1:", "http://localhost:"))


def new_request() -> str:
    return f"demo-{uuid4()}"


async def ignore_existing(call: Awaitable[object]) -> None:
    """Make it, or leave what is there already as it is."""
    try:
        await call
    except AlreadyExists:
        return
