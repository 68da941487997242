"""`parley bots`: creates, changes and lists bots."""

from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.text import Text

from parley.dialog.v1 import bot_pb2, dialog_pb2

from parley_cli.commands.bot_options import DEFAULT_FORM, OPTIONS, apply, name_form_file
from parley_cli.confirm import confirm
from parley_cli.durations import format_duration
from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.options import Flow, taking
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, Yes, as_dict, print_fields, print_json, print_table

BotId = Annotated[str, typer.Argument(help="The bot's id.")]
app = typer.Typer(help="Create, change and list bots.", no_args_is_help=True)

WAITING = (dialog_pb2.MESSAGE_STATE_RECEIVED, dialog_pb2.MESSAGE_STATE_PROCESSING, dialog_pb2.MESSAGE_STATE_FAILED)
DEFAULT_PROMPT = "You are a helpful assistant. Answer briefly, in the language of the question."


@app.command("create")
@taking(OPTIONS)
def create(
    bot_id: Annotated[str, typer.Option("--id", help="The bot's id, unique in the tenant.")],
    flow: Annotated[Flow, typer.Option("--flow", help="How the bot decides.")],
    given: dict[str, Any],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a bot."""
    bot = bot_pb2.Bot(tenant_id=tenant, bot_id=bot_id)
    if flow is Flow.form:
        bot.form.form_id = DEFAULT_FORM
    else:
        bot.assistant.system_prompt = DEFAULT_PROMPT
    apply(bot, given)
    request = bot_pb2.CreateBotRequest(tenant_id=tenant, bot=bot, request_id=f"cli-{uuid4()}")
    with name_form_file(given):
        made = perform(tenant, lambda session: session.bots.create_bot(request)).bot
    show_one(made, as_json=as_json)


@app.command("update")
@taking(OPTIONS)
def update(
    bot_id: BotId,
    given: dict[str, Any],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change a bot; only the given options change, from the next turn on."""

    async def work(session: Any) -> bot_pb2.Bot:
        get = bot_pb2.GetBotRequest(tenant_id=tenant, bot_id=bot_id)
        bot: bot_pb2.Bot = (await session.bots.get_bot(get)).bot
        mask = apply(bot, given)
        if not mask:
            raise Fault("nothing to change", "`parley bots update --help` lists what can be changed.")
        request = bot_pb2.UpdateBotRequest(
            tenant_id=tenant, bot=bot, update_mask=FieldMask(paths=mask), request_id=f"cli-{uuid4()}"
        )
        updated: bot_pb2.Bot = (await session.bots.update_bot(request)).bot
        return updated

    with name_form_file(given):
        updated = perform(tenant, work)
    show_one(updated, as_json=as_json)


@app.command("list")
def list_bots(tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """List a tenant's bots."""
    request = bot_pb2.ListBotsRequest(tenant_id=tenant, page_size=500)
    bots = perform(tenant, lambda session: session.bots.list_bots(request)).bots
    if as_json:
        print_json([describe(bot) for bot in bots])
        return
    rows = [(bot.bot_id, bot.WhichOneof("flow"), bot.display_name, bot.locale, state_of(bot)) for bot in bots]
    print_table(("id", "flow", "name", "locale", "state"), rows, empty="no bots")


@app.command("show")
def show(bot_id: BotId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a bot."""
    request = bot_pb2.GetBotRequest(tenant_id=tenant, bot_id=bot_id)
    show_one(perform(tenant, lambda session: session.bots.get_bot(request)).bot, as_json=as_json)


@app.command("enable")
def enable(bot_id: BotId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Let a bot answer, and clear its broken mark."""
    request = bot_pb2.EnableBotRequest(tenant_id=tenant, bot_id=bot_id, request_id=f"cli-{uuid4()}")
    show_one(perform(tenant, lambda session: session.bots.enable_bot(request)).bot, as_json=as_json)


@app.command("disable")
def disable(bot_id: BotId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Stop a bot from answering; its messages wait."""
    request = bot_pb2.DisableBotRequest(tenant_id=tenant, bot_id=bot_id, request_id=f"cli-{uuid4()}")
    show_one(perform(tenant, lambda session: session.bots.disable_bot(request)).bot, as_json=as_json)


@app.command("delete")
def delete(bot_id: BotId, yes: Yes = False, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Delete a bot but keep its history. Nobody answers the messages that wait for it."""
    request = bot_pb2.DeleteBotRequest(tenant_id=tenant, bot_id=bot_id, request_id=f"cli-{uuid4()}")
    waits = perform(tenant, lambda session: waiting_for(session, bot_id))
    if waits:
        confirm(f"{waits} wait for bot {bot_id} and would become dead letters. Delete it?", yes=yes)
    perform(tenant, lambda session: session.bots.delete_bot(request))
    if as_json:
        print_json({"id": bot_id, "bot_id": bot_id, "deleted": True})
    else:
        typer.echo(f"{bot_id} is deleted")


async def waiting_for(session: Session, bot_id: str) -> str:
    """Says how many messages wait for a bot; returns nothing if none do."""
    request = dialog_pb2.ListMessagesRequest(tenant_id=session.tenant, states=WAITING, page_size=500)
    page = await session.dialog.list_messages(request)
    count = sum(message.bot_id == bot_id for message in page.messages)
    return f"{'more than ' if page.next_page_token else ''}{count} messages" if count else ""


def describe(bot: bot_pb2.Bot) -> dict[str, Any]:
    return as_dict(bot, id="bot_id") | {"flow": bot.WhichOneof("flow")}


def state_of(bot: bot_pb2.Bot) -> Text:
    if bot.broken_reason:
        return Text(f"broken: {bot.broken_reason}", style="red")
    return Text("enabled", style="green") if bot.enabled else Text("disabled", style="yellow")


def show_one(bot: bot_pb2.Bot, *, as_json: bool) -> None:
    if as_json:
        print_json(describe(bot))
        return
    print_fields(
        {
            "id": bot.bot_id,
            "name": bot.display_name,
            "flow": bot.WhichOneof("flow"),
            "form": bot.form.form_id or ("its own" if bot.form.definition_yaml else ""),
            "prompt": bot.assistant.system_prompt,
            "model": bot.assistant.model,
            "locale": bot.locale,
            "remembers": format_duration(bot.dialog_ttl),
            "debounce": format_duration(bot.debounce) if bot.HasField("debounce") else "",
            "answers within": format_duration(bot.answer_within) if bot.HasField("answer_within") else "",
            "answers late": "yes" if bot.answer_late else "",
            "state": state_of(bot),
            "owner": bot.owner,
            "revision": bot.revision,
        }
    )
