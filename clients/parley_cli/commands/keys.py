"""`parley keys`: API keys, service tokens, and the keys that services sign and seal with."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import tenant_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, is_running, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, as_dict, brief, print_json, print_table

app = typer.Typer(help="API keys, service tokens, and the services' own keys.", no_args_is_help=True)
SERVICE_TOKEN_DAYS = 1.0
LONGEST_DAYS = 90.0


@app.command("create")
def create(
    scope: Annotated[
        str,
        typer.Option(
            "--scope", help="`chat`: a key for /v1/chat/*; `service`: a gRPC token; `metrics`: for Prometheus."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="What it is for, shown in the list.")] = "",
    channel: Annotated[str, typer.Option("--channel", help="For `chat`: the `api` channel that it opens.")] = "",
    days: Annotated[
        float,
        typer.Option(
            "--days",
            min=0,
            help="Days for which it is valid; by default 1 for a token (at most 90), for ever for a key.",
        ),
    ] = 0.0,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a key, which is shown only once."""
    if len(name) > 64:
        raise Fault("a name has at most 64 characters")
    if scope in ("service", "metrics"):
        whose = tenant if scope == "service" else "*"  # the numbers are about all tenants
        print_token(scope, whose, name, days or SERVICE_TOKEN_DAYS, as_json=as_json)
    elif scope == "chat":
        print_key(perform(tenant, lambda session: make_key(session, name, channel, days)), as_json=as_json)
    else:
        raise Fault(f"--scope {scope!r} is unknown", "Scopes are `metrics`, `chat` and `service`.")


@app.command("list")
def list_keys(tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """List API keys and service tokens, newest first, but not their secrets. Tokens need no running stack."""
    request = tenant_pb2.ListApiKeysRequest(tenant_id=tenant, page_size=500)
    tokens = [row for row in reversed(ask_stack("tokens")) if row["tenant_id"] in (tenant, "*")]
    found = perform(tenant, lambda session: session.tenants.list_api_keys(request)).api_keys if is_running() else []
    if as_json:
        keys = [{"scope": "chat"} | as_dict(key, id="key_id") for key in found]
        print_json(keys + tokens)
        return
    rows = [
        (
            key.key_id,
            "chat",
            key.name,
            key.channel_id,
            *(brief(at) for at in (key.created_at, key.expires_at, key.last_used_at, key.revoked_at)),
        )
        for key in found
    ]
    rows += [
        (
            token["id"],
            token["scope"],
            token["name"],
            "",
            short(token["created_at"]),
            short(token["expires_at"]),
            "",
            short(token["revoked_at"]),
        )
        for token in tokens
    ]
    print_table(("id", "scope", "name", "channel", "made", "ends", "last used", "revoked"), rows, empty="no keys")
    if not is_running():
        typer.echo("no stack runs, so only service tokens are shown", err=True)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `parley keys list` shows.")],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Revoke an API key (it ends within 30 seconds) or a service token (within two)."""
    if key_id.startswith("st_"):
        answer = ask_stack("revoke", key_id)
    else:
        request = tenant_pb2.RevokeApiKeyRequest(tenant_id=tenant, key_id=key_id, request_id=f"cli-{uuid4()}")
        answer = as_dict(perform(tenant, lambda session: session.tenants.revoke_api_key(request)).api_key, id="key_id")
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"{answer['id']} is revoked")


@app.command("rotate")
def rotate(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Services, `operator` (signs tokens) or `master` (seals what is stored); all by default."),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="End what the old keys have signed within 15 seconds, because one was stolen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give services new keys while they run.

    What the old keys have signed stays valid until it expires, unless you give --now. What they have sealed can
    always be opened.
    """
    answer = ask_stack("rotate", *(names or []), *(["--now"] if now else []))
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"new keys: {', '.join(answer['rotated'])}")


def ask_stack(*arguments: str) -> Any:
    """Runs a command of the local stack, which has the keys, and returns its answer. Raises `Fault`."""
    command = [sys.executable, "-P", "-m", "deploy.local", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fault(done.stderr.strip().rpartition("\n")[2] or "the stack's keys cannot be used")
    return json.loads(done.stdout)


def short(at: str | None) -> str:
    """Formats a time for a table."""
    value = Timestamp()
    if at:
        value.FromJsonString(at)
    return brief(value) if at else ""


async def make_key(session: Session, name: str, channel: str, days: float) -> tenant_pb2.CreateApiKeyResponse:
    """Creates a chat key. Raises `Fault` if it is not clear for which channel."""
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=session.tenant,
        scopes=[tenant_pb2.API_KEY_SCOPE_CHAT],
        channel_id=await api_channel(session, channel) if channel else await only_api_channel(session),
        request_id=f"cli-{uuid4()}",
        name=name,
    )
    if days:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return await session.tenants.create_api_key(request)


async def api_channel(session: Session, channel_id: str) -> str:
    """Checks that the channel is an `api` channel. Raises `Fault` or CHANNEL_NOT_FOUND."""
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
            f"tenant {session.tenant!r} has no api channel",
            "Create one: parley channels create --id ID --provider api --bot BOT",
        )
    raise Fault("a chat key is for one api channel: say which", f"--channel {' | '.join(found)}")


def print_key(made: tenant_pb2.CreateApiKeyResponse, *, as_json: bool) -> None:
    if as_json:
        print_json({"key": made.key} | as_dict(made.api_key, id="key_id"))
        return
    typer.echo(made.key)
    typer.echo(f"for channel {made.api_key.channel_id}; send it as X-API-KEY. It is not shown again.", err=True)


def print_token(scope: str, tenant: str, name: str, days: float, *, as_json: bool) -> None:
    """Prints a signed token. The stack need not be running."""
    if days > LONGEST_DAYS:
        raise Fault(f"a token is valid for at most {LONGEST_DAYS:g} days", f"--days {LONGEST_DAYS:g}")
    made = ask_stack("token", "--scope", scope, "--tenant", tenant, "--name", name, "--hours", str(days * 24))
    if as_json:
        print_json({"key": made["token"]} | made)
        return
    typer.echo(made["token"])
    until = short(made["expires_at"])
    whose = "all tenants" if tenant == "*" else f"tenant {tenant}"
    typer.echo(f"for {whose}, valid until {until}; send it as `authorization: Bearer <token>`.", err=True)
    typer.echo(f"It is not shown again; `parley keys revoke {made['id']}` ends it.", err=True)
