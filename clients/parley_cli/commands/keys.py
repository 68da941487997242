"""`parley keys`: who may come in from outside."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import uuid4

import typer

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import tenant_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, as_dict, clock, print_json, print_table

app = typer.Typer(help="API keys and service tokens.", no_args_is_help=True)
SERVICE_TOKEN_HOURS = 24.0


@app.command("create")
def create(
    scope: Annotated[str, typer.Option("--scope", help="`chat`: a key for /v1/chat/*; `service`: a gRPC token.")],
    channel: Annotated[str, typer.Option("--channel", help="For `chat`: the `api` channel it speaks on.")] = "",
    days: Annotated[float, typer.Option("--days", min=0, help="How long it holds; 0: for ever, a token 1.")] = 0.0,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once."""
    if scope == "service":
        print_token(tenant, days * 24 or SERVICE_TOKEN_HOURS, as_json=as_json)
    elif scope == "chat":
        print_key(perform(tenant, lambda session: make_key(session, channel, days)), as_json=as_json)
    else:
        raise Fault(f"--scope {scope!r} is not known", "Scopes are `chat` and `service`.")


@app.command("list")
def list_keys(tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """List API keys, newest first, without the keys themselves."""
    request = tenant_pb2.ListApiKeysRequest(tenant_id=tenant, page_size=500)
    found = perform(tenant, lambda session: session.tenants.list_api_keys(request)).api_keys
    if as_json:
        print_json([as_dict(key, id="key_id") for key in found])
        return
    rows = [
        (key.key_id, key.channel_id, clock(key.created_at), clock(key.expires_at), clock(key.revoked_at))
        for key in found
    ]
    print_table(("id", "channel", "made", "ends", "revoked"), rows, empty="no keys")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `parley keys list` shows it.")],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """End an API key. Edges forget it within 30 seconds."""
    request = tenant_pb2.RevokeApiKeyRequest(tenant_id=tenant, key_id=key_id, request_id=f"cli-{uuid4()}")
    key = perform(tenant, lambda session: session.tenants.revoke_api_key(request)).api_key
    if as_json:
        print_json(as_dict(key, id="key_id"))
    else:
        typer.echo(f"{key.key_id} is revoked")


async def make_key(session: Session, channel: str, days: float) -> tenant_pb2.CreateApiKeyResponse:
    """A chat key. Raises `Fault` when it is not clear for which channel."""
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=session.tenant,
        scopes=[tenant_pb2.API_KEY_SCOPE_CHAT],
        channel_id=await api_channel(session, channel) if channel else await only_api_channel(session),
        request_id=f"cli-{uuid4()}",
    )
    if days:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return await session.tenants.create_api_key(request)


async def api_channel(session: Session, channel_id: str) -> str:
    """The channel, which must be of kind api. Raises `Fault` or CHANNEL_NOT_FOUND."""
    request = channel_pb2.GetChannelRequest(tenant_id=session.tenant, channel_id=channel_id)
    channel = (await session.channels.get_channel(request)).channel
    if channel.provider != channel_pb2.PROVIDER_API:
        raise Fault(f"channel {channel_id!r} is not of kind api", "`parley channels list` shows which are.")
    return channel_id


async def only_api_channel(session: Session) -> str:
    request = channel_pb2.ListChannelsRequest(tenant_id=session.tenant, page_size=500)
    channels = (await session.channels.list_channels(request)).channels
    found = [channel.channel_id for channel in channels if channel.provider == channel_pb2.PROVIDER_API]
    preferred = f"{session.tenant}-api"
    if preferred in found:
        return preferred
    if len(found) == 1:
        return found[0]
    if not found:
        raise Fault(
            f"tenant {session.tenant!r} has no channel of kind api",
            "Make one: parley channels create --id ID --provider api --bot BOT",
        )
    raise Fault("a chat key is for one channel of kind api: say which", f"--channel {' | '.join(found)}")


def print_key(made: tenant_pb2.CreateApiKeyResponse, *, as_json: bool) -> None:
    if as_json:
        print_json({"key": made.key} | as_dict(made.api_key, id="key_id"))
        return
    typer.echo(made.key)
    typer.echo(f"for channel {made.api_key.channel_id}; send it as X-API-KEY. It is not shown again.", err=True)


def print_token(tenant: str, hours: float, *, as_json: bool) -> None:
    """A signed token, which holds whether the stack runs or not."""
    command = [sys.executable, "-m", "deploy.local", "token", "--role", "integration", "--tenant", tenant]
    done = subprocess.run([*command, "--hours", str(hours)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fault("no token could be made: " + (done.stderr.strip() or "the operator's key cannot be used"))
    token = done.stdout.strip()
    if as_json:
        expires = datetime.now(UTC) + timedelta(hours=hours)
        print_json(
            {
                "key": token,
                "token": token,
                "scope": "service",
                "tenant_id": tenant,
                "expires_at": expires.isoformat(timespec="seconds"),
            }
        )
        return
    typer.echo(token)
    typer.echo(f"for tenant {tenant}, good for {hours:g} h; send it as `authorization: Bearer <token>`.", err=True)
