"""`parley chat`: talks to a bot in the terminal."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any
from uuid import uuid4

import typer

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import dialog_pb2

from parley_cli.commands.channels import require_bot
from parley_cli.faults import Fault, explain, print_fault
from parley_cli.local import Session, opened
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, print_json
from parley_client.errors import CallError


def chat(
    bot: Annotated[str, typer.Option("--bot", help="The bot to talk to.")],
    user: Annotated[str, typer.Option("--user", help="Who you are; somebody new by default.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for a reply.")] = 60.0,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Talk to a bot: read lines from standard input and print the replies. Ctrl-D ends."""
    speaker = user or f"cli-{uuid4().hex[:8]}"
    interactive = sys.stdin.isatty() and not as_json
    if interactive:
        typer.secho(f"You are {speaker}; Ctrl-D ends.", dim=True, err=True)
    with opened(tenant) as (runner, session):
        channel = runner.run(api_channel(session, bot))
        conversation = Conversation(session, channel, bot, speaker, timeout, quiet=as_json)
        for text in typed() if interactive else piped():
            runner.run(conversation.exchange(text))
    if as_json:
        print_json(conversation.exchanges)
    if interactive:
        typer.secho(f"Go on with: parley chat --bot {bot} --user {speaker}", dim=True, err=True)
    if conversation.failed:
        raise typer.Exit(1)


class Conversation:
    """Sends lines to a bot and prints its replies."""

    def __init__(self, session: Session, channel: str, bot: str, speaker: str, timeout: float, *, quiet: bool) -> None:
        self.session, self.channel, self.bot, self.speaker = session, channel, bot, speaker
        self.timeout, self.quiet = timeout, quiet
        self.exchanges: list[dict[str, Any]] = []
        self.failed = False
        self.live = sys.stdout.isatty() and not quiet

    async def exchange(self, text: str) -> None:
        """Sends a message and waits for its reply. Prints a failure, so that the conversation goes on."""
        try:
            self.exchanges.append(await self.say(text))
        except CallError as error:
            self.failed = True
            print_fault(explain(error))

    async def say(self, text: str) -> dict[str, Any]:
        """Sends a message and returns it with its reply. Raises `CallError`."""
        sender = identity_pb2.Sender(
            identity=identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_EXTERNAL, value=self.speaker)
        )
        request = dialog_pb2.ChatRequest(
            tenant_id=self.session.tenant,
            channel_id=self.channel,
            bot_id=self.bot,
            sender=sender,
            content=content_pb2.InboundContent(text=text),
            request_id=f"cli-{uuid4()}",
        )
        preview = ""
        async for event in self.session.dialog.chat(request, timeout=self.timeout):
            match event.WhichOneof("event"):
                case "delta":
                    preview += event.delta.text
                    self.show(event.delta.text)
                case "reset":
                    self.show("\n(again)\n" if preview else "")
                    preview = ""
                case "final":
                    return self.finish(text, preview, event.final)
        raise Fault("the reply's stream ended without a reply", "`parley messages list` shows what became of it.")

    def show(self, text: str) -> None:
        if self.live:
            typer.echo(text, nl=False)

    def finish(self, text: str, preview: str, final: dialog_pb2.ChatResponse.Final) -> dict[str, Any]:
        if not self.quiet:
            shown = self.live and preview == final.reply
            typer.echo("" if shown else f"{chr(10) if self.live and preview else ''}{final.reply}")
        usage = final.usage
        return {
            "message_id": final.message_id,
            "message": text,
            "reply": final.reply,
            "tokens_used": usage.input_tokens + usage.output_tokens,
            "remaining_today": final.remaining_today if final.HasField("remaining_today") else None,
        }


def piped() -> Iterator[str]:
    """Yields lines of standard input that are not empty."""
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def typed() -> Iterator[str]:
    """Yields what a person types at a prompt."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its history and editing
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo(err=True)
            return
        if line.strip():
            yield line.strip()


async def api_channel(session: Session, bot: str) -> str:
    """Returns the bot's `api` channel; creates one if it has none."""
    request = channel_pb2.ListChannelsRequest(tenant_id=session.tenant, bot_id=bot, page_size=500)
    for channel in (await session.channels.list_channels(request)).channels:
        if channel.provider == channel_pb2.PROVIDER_API and channel.enabled:
            return channel.channel_id
    await require_bot(session, bot)
    prefix = "cli" if session.tenant == DEFAULT_TENANT else f"cli-{session.tenant}"
    channel = channel_pb2.Channel(
        tenant_id=session.tenant,
        channel_id=f"{prefix}-{bot}"[:63],
        provider=channel_pb2.PROVIDER_API,
        bot_id=bot,
    )
    create = channel_pb2.CreateChannelRequest(tenant_id=session.tenant, channel=channel, request_id=f"cli-{uuid4()}")
    return (await session.channels.create_channel(create)).channel.channel_id
