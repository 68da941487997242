"""`parley channels`: creates, changes and lists bots' connections to messengers."""

import os
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.text import Text

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import bot_pb2

from parley_cli.confirm import confirm
from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.options import Mode, Provider
from parley_cli.output import (
    DEFAULT_TENANT,
    Json,
    Tenant,
    Yes,
    as_dict,
    enum_label,
    print_fields,
    print_json,
    print_table,
)

app = typer.Typer(help="Create, change and list bots' connections to messengers.", no_args_is_help=True)

ChannelId = Annotated[str, typer.Argument(help="The channel's id.")]


@app.command("create")
def create(
    channel_id: Annotated[str, typer.Option("--id", help="The channel's id, unique across all tenants.")],
    provider: Annotated[Provider, typer.Option(help="The messenger.")],
    bot: Annotated[str, typer.Option(help="The bot that answers.")],
    token: Annotated[str, typer.Option(help="The token for the provider's API.", envvar="PARLEY_CHANNEL_TOKEN")] = "",
    secret: Annotated[str, typer.Option(help="The secret of its webhooks; by default a new one.")] = "",
    api_base: Annotated[str, typer.Option("--api-base", help="The address of the provider's API.")] = "",
    mode: Annotated[Mode, typer.Option(help="How its messages arrive.")] = Mode.webhook,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a channel and print the webhook address to give to the provider."""
    if provider is Provider.chat2desk and not token:
        raise Fault("a chat2desk channel needs --token", "Chat2Desk shows it under Settings, API.")
    request = channel_pb2.CreateChannelRequest(
        tenant_id=tenant,
        channel=channel_pb2.Channel(
            tenant_id=tenant,
            channel_id=channel_id,
            provider=channel_pb2.Provider.Value(f"PROVIDER_{provider.name.upper()}"),
            bot_id=bot,
            settings=settings_of(provider.value, api_base),
        ),
        secrets=secrets_of(token, secret),
        request_id=f"cli-{uuid4()}",
    )

    async def work(session: Session) -> dict[str, Any]:
        await require_bot(session, bot)
        made = await session.channels.create_channel(request)
        return describe(session, made.channel, made.webhook_secret)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("list")
def list_channels(
    bot: Annotated[str, typer.Option(help="Only this bot's channels.")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List a tenant's channels."""
    request = channel_pb2.ListChannelsRequest(tenant_id=tenant, bot_id=bot, page_size=500)

    async def work(session: Session) -> list[dict[str, Any]]:
        found = (await session.channels.list_channels(request)).channels
        return [describe(session, channel) for channel in found]

    channels = perform(tenant, work)
    if as_json:
        print_json(channels)
        return
    rows = [
        (channel["channel_id"], channel["provider"].lower(), channel["bot_id"], state_of(channel), channel["api_base"])
        for channel in channels
    ]
    print_table(("id", "provider", "bot", "state", "api base"), rows, empty="no channels")


@app.command("show")
def show(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a channel without its secrets."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.GetChannelRequest(tenant_id=tenant, channel_id=channel_id)
        return describe(session, (await session.channels.get_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("update")
def update(
    channel_id: ChannelId,
    bot: Annotated[str | None, typer.Option(help="The bot that answers.")] = None,
    api_base: Annotated[str | None, typer.Option("--api-base", help="The address of the provider's API.")] = None,
    token: Annotated[
        str,
        typer.Option(help="A new token, or the same one again with a new --api-base.", envvar="PARLEY_CHANNEL_TOKEN"),
    ] = "",
    secret: Annotated[str, typer.Option(help="A new webhook secret.")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change a channel; only the given options change, at once."""
    if bot is None and api_base is None and not (token or secret):
        raise Fault("nothing to change", "Give --bot, --api-base, --token or --secret.")

    async def work(session: Session) -> dict[str, Any]:
        if bot is not None:
            await require_bot(session, bot)
        get = channel_pb2.GetChannelRequest(tenant_id=tenant, channel_id=channel_id)
        channel = (await session.channels.get_channel(get)).channel
        paths = []
        if bot is not None:
            channel.bot_id = bot
            paths.append("bot_id")
        if api_base is not None:
            if channel.has_token and not token and api_base.rstrip("/") != channel.api_base:
                raise Fault(
                    "a new --api-base needs --token again", "A stored token is for the address it was given for."
                )
            channel.settings.CopyFrom(settings_of(provider_of(channel), api_base))
            paths.append(f"settings.{provider_of(channel)}.api_base")
        request = channel_pb2.UpdateChannelRequest(
            tenant_id=tenant,
            channel=channel,
            update_mask=FieldMask(paths=paths) if paths else None,
            secrets=secrets_of(token, secret),
            request_id=f"cli-{uuid4()}",
        )
        return describe(session, (await session.channels.update_channel(request)).channel, secret)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("enable")
def enable(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Let a channel receive and send, and clear its broken mark."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.EnableChannelRequest(tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}")
        return describe(session, (await session.channels.enable_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("disable")
def disable(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Stop a channel. Incoming messages are stored as rejected; outgoing ones wait."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.DisableChannelRequest(
            tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}"
        )
        return describe(session, (await session.channels.disable_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("delete")
def delete(channel_id: ChannelId, yes: Yes = False, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Delete a channel. Replies that wait in its outbox are never sent."""
    request = channel_pb2.DeleteChannelRequest(tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}")
    waits = perform(tenant, lambda session: waiting_on(session, channel_id))
    if waits:
        confirm(f"{waits} wait to go out by {channel_id} and would never be sent. Delete it?", yes=yes)
    perform(tenant, lambda session: session.channels.delete_channel(request))
    if as_json:
        print_json({"id": channel_id, "channel_id": channel_id, "deleted": True})
    else:
        typer.echo(f"{channel_id} is deleted")


async def require_bot(session: Session, bot: str) -> None:
    """Raises BOT_NOT_FOUND for a bot that does not exist, because delivery, which keeps channels, knows no bots."""
    await session.bots.get_bot(bot_pb2.GetBotRequest(tenant_id=session.tenant, bot_id=bot))


async def waiting_on(session: Session, channel_id: str) -> str:
    """Says how many replies wait in a channel's outbox; returns nothing if none do."""
    request = delivery_pb2.ListDeliveriesRequest(
        tenant_id=session.tenant,
        channel_id=channel_id,
        part_state=delivery_pb2.PART_STATE_PENDING,
        page_size=500,
    )
    page = await session.delivery.list_deliveries(request)
    count = len(page.deliveries)
    return f"{'more than ' if page.next_page_token else ''}{count} replies" if count else ""


def describe(session: Session, channel: channel_pb2.Channel, secret: str = "") -> dict[str, Any]:
    """Returns a channel for `--json`, with its secret only if that was given or generated just now."""
    shown = as_dict(channel, id="channel_id") | {"webhook_url": webhook_url(session, channel, secret)}
    return shown | ({"webhook_secret": secret} if secret else {})


def webhook_url(session: Session, channel: channel_pb2.Channel, secret: str) -> str | None:
    """Returns the address for the provider's webhooks, with the secret if it is known; None if there are none."""
    if channel.provider == channel_pb2.PROVIDER_API:
        return None
    base = os.environ.get("PARLEY_PUBLIC_URL", "").rstrip("/") or session.stack.get("urls", {}).get("edge", "")
    query = f"?secret={quote(secret)}" if secret else ""
    return f"{base}/webhooks/{provider_of(channel)}/{channel.channel_id}{query}"


def provider_of(channel: channel_pb2.Channel) -> str:
    """Returns the provider's name, which is also that of its settings."""
    return enum_label("Provider", channel_pb2.Provider.Name(channel.provider)).lower()


def settings_of(provider: str, api_base: str) -> channel_pb2.ChannelSettings:
    """Makes the settings of a provider's channel. Raises `Fault` if it has no such settings."""
    settings = channel_pb2.ChannelSettings()
    given = getattr(settings, provider)
    given.SetInParent()
    if "api_base" in given.DESCRIPTOR.fields_by_name:
        given.api_base = api_base.rstrip("/")
    elif api_base:
        raise Fault(f"{provider} channels have no --api-base", "They call no address.")
    return settings


def secrets_of(token: str, secret: str) -> channel_pb2.ChannelSecrets:
    """Makes the given secrets, by name."""
    given = {"token": token, "webhook_secret": secret}
    return channel_pb2.ChannelSecrets(values={name: value for name, value in given.items() if value})


def state_of(channel: dict[str, Any]) -> Text:
    if channel["broken_reason"]:
        return Text(f"broken: {channel['broken_reason']}", style="red")
    return Text("enabled", style="green") if channel["enabled"] else Text("disabled", style="yellow")


def show_one(channel: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(channel)
        return
    print_fields(
        {
            "id": channel["channel_id"],
            "provider": channel["provider"].lower(),
            "bot": channel["bot_id"],
            "state": state_of(channel),
            "api base": channel["api_base"],
            "token": "stored" if channel["has_token"] else "none",
            "webhook": channel["webhook_url"],
            "secret": channel.get("webhook_secret", ""),
        }
    )
