"""`parley channels`: bots' connections to messengers."""

import os
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.text import Text

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, as_dict, enum_label, print_fields, print_json, print_table

app = typer.Typer(help="Bots' connections to messengers.", no_args_is_help=True)

PROVIDERS = {"api": channel_pb2.PROVIDER_API, "chat2desk": channel_pb2.PROVIDER_CHAT2DESK}
LATER = ("telegram", "whatsapp")
ChannelId = Annotated[str, typer.Argument(help="The channel's id.")]


@app.command("create")
def create(
    channel_id: Annotated[str, typer.Option("--id", help="Its id, unique over all tenants.")],
    provider: Annotated[str, typer.Option(help="api, chat2desk, telegram or whatsapp.")],
    bot: Annotated[str, typer.Option(help="The bot that answers.")],
    token: Annotated[
        str, typer.Option(help="What the provider's API wants from us.", envvar="PARLEY_CHANNEL_TOKEN")
    ] = "",
    secret: Annotated[str, typer.Option(help="What its webhook shows us; made when not given.")] = "",
    api_base: Annotated[str, typer.Option("--api-base", help="Address of the provider's API.")] = "",
    mode: Annotated[str, typer.Option(help="webhook, or polling (telegram).")] = "webhook",
    app_secret: Annotated[str, typer.Option("--app-secret", help="WhatsApp's app secret.")] = "",
    verify_token: Annotated[str, typer.Option("--verify-token", help="WhatsApp's verify token.")] = "",
    phone_number_id: Annotated[str, typer.Option("--phone-number-id", help="WhatsApp's phone number id.")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a channel, and print the webhook address to give to the provider."""
    whatsapp = {"--app-secret": app_secret, "--verify-token": verify_token, "--phone-number-id": phone_number_id}
    check_options(provider, mode, whatsapp, token)
    request = channel_pb2.CreateChannelRequest(
        tenant_id=tenant,
        channel=channel_pb2.Channel(
            tenant_id=tenant,
            channel_id=channel_id,
            provider=PROVIDERS[provider],
            bot_id=bot,
            api_base=api_base.rstrip("/"),
        ),
        secrets=channel_pb2.ChannelSecrets(token=token, webhook_secret=secret),
        request_id=f"cli-{uuid4()}",
    )

    async def work(session: Session) -> dict[str, Any]:
        await require_bot(session, bot)
        made = await session.channels.create_channel(request)
        return describe(session, made.channel, made.webhook_secret)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("list")
def list_channels(
    bot: Annotated[str, typer.Option(help="Only this bot's.")] = "",
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
    """Show a channel, without its secrets."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.GetChannelRequest(tenant_id=tenant, channel_id=channel_id)
        return describe(session, (await session.channels.get_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("update")
def update(
    channel_id: ChannelId,
    bot: Annotated[str | None, typer.Option(help="The bot that answers.")] = None,
    api_base: Annotated[str | None, typer.Option("--api-base", help="Address of the provider's API.")] = None,
    token: Annotated[str, typer.Option(help="A new token.", envvar="PARLEY_CHANNEL_TOKEN")] = "",
    secret: Annotated[str, typer.Option(help="A new webhook secret.")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change what is given; it holds at once."""
    changes = {"bot_id": bot, "api_base": api_base if api_base is None else api_base.rstrip("/")}
    given = {name: value for name, value in changes.items() if value is not None}
    if not (given or token or secret):
        raise Fault("nothing to change", "Give --bot, --api-base, --token or --secret.")

    async def work(session: Session) -> dict[str, Any]:
        if bot is not None:
            await require_bot(session, bot)
        get = channel_pb2.GetChannelRequest(tenant_id=tenant, channel_id=channel_id)
        channel = (await session.channels.get_channel(get)).channel
        for name, value in given.items():
            setattr(channel, name, value)
        request = channel_pb2.UpdateChannelRequest(
            tenant_id=tenant,
            channel=channel,
            update_mask=FieldMask(paths=sorted(given)) if given else None,
            secrets=channel_pb2.ChannelSecrets(token=token, webhook_secret=secret),
            request_id=f"cli-{uuid4()}",
        )
        return describe(session, (await session.channels.update_channel(request)).channel, secret)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("enable")
def enable(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Let a channel receive and send; clears its broken mark."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.EnableChannelRequest(tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}")
        return describe(session, (await session.channels.enable_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("disable")
def disable(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Stop a channel: what comes in is stored as rejected, what is to go out waits."""

    async def work(session: Session) -> dict[str, Any]:
        request = channel_pb2.DisableChannelRequest(
            tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}"
        )
        return describe(session, (await session.channels.disable_channel(request)).channel)

    show_one(perform(tenant, work), as_json=as_json)


@app.command("delete")
def delete(channel_id: ChannelId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Delete a channel; what waits in its outbox is dead."""
    request = channel_pb2.DeleteChannelRequest(tenant_id=tenant, channel_id=channel_id, request_id=f"cli-{uuid4()}")
    perform(tenant, lambda session: session.channels.delete_channel(request))
    if as_json:
        print_json({"id": channel_id, "channel_id": channel_id, "deleted": True})
    else:
        typer.echo(f"{channel_id} is deleted")


async def require_bot(session: Session, bot: str) -> None:
    """Raise BOT_NOT_FOUND before a channel is given to nobody: delivery, which keeps channels, knows no bots."""
    await session.bots.get_bot(bot_pb2.GetBotRequest(tenant_id=session.tenant, bot_id=bot))


def check_options(provider: str, mode: str, whatsapp: dict[str, str], token: str) -> None:
    """Raise `Fault` for what this version or this provider does not take."""
    if provider in LATER:
        raise Fault(f"--provider {provider} is not available in this version", "Use chat2desk or api.")
    if provider not in PROVIDERS:
        raise Fault(f"--provider {provider!r} is not known", f"Providers are {', '.join(PROVIDERS)}.")
    if mode not in ("webhook", "polling"):
        raise Fault(f"--mode {mode!r} is not known", "Modes are webhook and polling.")
    if mode == "polling":
        raise Fault(f"--mode polling is for telegram; {provider} calls a webhook")
    for option, value in whatsapp.items():
        if value:
            raise Fault(f"{option} is for whatsapp, not for {provider}")
    if provider == "chat2desk" and not token:
        raise Fault("a chat2desk channel needs --token", "Chat2Desk shows it under Settings, API.")


def describe(session: Session, channel: channel_pb2.Channel, secret: str = "") -> dict[str, Any]:
    """A channel as `--json` prints it; with its secret only when that was given or made just now."""
    shown = as_dict(channel, id="channel_id") | {"webhook_url": webhook_url(session, channel, secret)}
    return shown | ({"webhook_secret": secret} if secret else {})


def webhook_url(session: Session, channel: channel_pb2.Channel, secret: str) -> str | None:
    """Where the provider sends its webhooks; with the secret in it when that is known. None when it sends none."""
    if channel.provider == channel_pb2.PROVIDER_API:
        return None
    base = os.environ.get("PARLEY_PUBLIC_URL", "").rstrip("/") or session.stack.get("urls", {}).get("edge", "")
    provider = enum_label("Provider", channel_pb2.Provider.Name(channel.provider)).lower()
    query = f"?secret={quote(secret)}" if secret else ""
    return f"{base}/webhooks/{provider}/{channel.channel_id}{query}"


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
