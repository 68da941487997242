"""`parley messages`: lists, shows and retries incoming messages."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.text import Text

from parley.common.v1 import waiting_pb2
from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_cli.commands.deliveries import retry_delivery
from parley_cli.durations import Since
from parley_cli.local import Session, perform
from parley_cli.options import MessageState
from parley_cli.output import (
    DEFAULT_TENANT,
    Count,
    Json,
    Tenant,
    as_dict,
    brief,
    clock,
    console,
    enum_label,
    is_since,
    print_fields,
    print_json,
    print_table,
)
from parley_cli.waits import briefly, in_words

app = typer.Typer(help="Incoming messages and what became of them.", no_args_is_help=True)
STYLES = {
    dialog_pb2.MESSAGE_STATE_COMPLETED: "green",
    dialog_pb2.MESSAGE_STATE_FAILED: "yellow",
    dialog_pb2.MESSAGE_STATE_TERMINAL: "red",
}
WORSE = [
    dialog_pb2.REPLY_STATE_UNSPECIFIED,
    dialog_pb2.REPLY_STATE_RETURNED,
    dialog_pb2.REPLY_STATE_READ,
    dialog_pb2.REPLY_STATE_DELIVERED,
    dialog_pb2.REPLY_STATE_SENT,
    dialog_pb2.REPLY_STATE_QUEUED,
    dialog_pb2.REPLY_STATE_DEAD,
]
"""States of replies, best first."""
REPLY_STYLES = {dialog_pb2.REPLY_STATE_DEAD: "red", dialog_pb2.REPLY_STATE_QUEUED: "yellow"}
MessageId = Annotated[str, typer.Argument(help="The message's id.")]


@app.command("list")
def list_messages(
    state: Annotated[
        list[MessageState] | None,
        typer.Option("--state", case_sensitive=False, help="Only messages in this state; may be repeated."),
    ] = None,
    conversation: Annotated[str, typer.Option(help="Only this conversation.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel.")] = "",
    since: Since = None,
    count: Count = 50,
    wide: Annotated[
        bool, typer.Option("--wide", help="Also show channels, conversations, attempts and times of completion.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List messages, newest first, with what became of their replies."""
    request = dialog_pb2.ListMessagesRequest(
        tenant_id=tenant,
        states=[dialog_pb2.MessageState.Value(f"MESSAGE_STATE_{each.value.upper()}") for each in state or ()],
        conversation_id=conversation,
        channel_id=channel,
        page_size=count,
    )
    found = perform(tenant, lambda session: newest(session, request, count))
    messages = [message for message in found if is_since(message.received_at, since)]
    if as_json:
        print_json([show_message(message) for message in messages])
        return
    columns = ("id", "received", "state", "from", *(WIDE if wide else ()), "text")
    rows = [
        (
            message.message_id,
            brief(message.received_at),
            state_in_words(message),
            sender_of(message),
            *(further(message) if wide else ()),
            message.content.text,
        )
        for message in messages
    ]
    print_table(columns, rows, empty="no messages", gives_way="text")


async def newest(session: Session, request: dialog_pb2.ListMessagesRequest, count: int) -> list[dialog_pb2.Message]:
    """Reads `count` messages. If few of many match, a page may be short and the next one has more."""
    found: list[dialog_pb2.Message] = []
    while True:
        page = await session.dialog.list_messages(request)
        found += page.messages
        if len(found) >= count or not page.next_page_token:
            return found[:count]
        request.page_token = page.next_page_token


WIDE = ("channel", "conversation", "attempts", "completed")


def further(message: dialog_pb2.Message) -> tuple[object, ...]:
    return message.channel_id, message.conversation_id, message.attempts, brief(message.completed_at)


@app.command("show")
def show(message_id: MessageId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a message with its states, replies and usage, and what it and its replies wait for."""

    async def work(session: Session) -> tuple[dialog_pb2.Message, list[delivery_pb2.Delivery]]:
        message = await get_message(session, message_id)
        if not any(reply.state == dialog_pb2.REPLY_STATE_QUEUED for reply in message.replies):
            return message, []
        request = delivery_pb2.ListDeliveriesRequest(tenant_id=tenant, message_id=message_id, page_size=500)
        return message, list((await session.delivery.list_deliveries(request)).deliveries)

    message, deliveries = perform(tenant, work)
    waits = {delivery.delivery_id: delivery.waiting for delivery in deliveries}
    if as_json:
        shown = show_message(message)
        for reply in shown["replies"]:
            reply["waiting"] = as_dict(waits[reply["delivery_id"]]) if reply["delivery_id"] in waits else None
        print_json(shown)
        return
    print_message(message, waits)


@app.command("retry")
def retry(message_id: MessageId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Answer a FAILED or TERMINAL message anew; if it was answered, send its dead replies again."""

    async def work(session: Session) -> tuple[dialog_pb2.Message, list[str]]:
        message = await get_message(session, message_id)
        dead = dead_deliveries(message)
        if not dead:
            request = dialog_pb2.RetryMessageRequest(
                tenant_id=tenant, message_id=message_id, request_id=f"cli-{uuid4()}"
            )
            return (await session.dialog.retry_message(request)).message, []
        for delivery_id in dead:
            await retry_delivery(session, delivery_id)
        return await get_message(session, message_id), dead

    message, sent_again = perform(tenant, work)
    if as_json:
        print_json(show_message(message))
    elif sent_again:
        typer.echo(f"The answer stands; sent again: delivery {', '.join(sent_again)}.")
    else:
        typer.echo(f"{message.message_id} is queued again; `parley messages show {message.message_id}` follows it.")


def dead_deliveries(message: dialog_pb2.Message) -> list[str]:
    """Returns the deliveries of an answered message whose replies never arrived."""
    if message.state != dialog_pb2.MESSAGE_STATE_COMPLETED:
        return []
    return [
        reply.delivery_id
        for reply in message.replies
        if reply.state == dialog_pb2.REPLY_STATE_DEAD and reply.delivery_id
    ]


async def get_message(session: Session, message_id: str) -> dialog_pb2.Message:
    """Reads a message. Raises `CallError`."""
    request = dialog_pb2.GetMessageRequest(tenant_id=session.tenant, message_id=message_id)
    return (await session.dialog.get_message(request)).message


def show_message(message: dialog_pb2.Message) -> dict[str, Any]:
    return as_dict(message, id="message_id") | {"text": message.content.text}


def state_of(message: dialog_pb2.Message) -> str:
    return enum_label("MessageState", dialog_pb2.MessageState.Name(message.state))


def reply_state(reply: dialog_pb2.Reply) -> str:
    return enum_label("ReplyState", dialog_pb2.ReplyState.Name(reply.state))


def state_in_words(message: dialog_pb2.Message) -> Text:
    """Returns the state, and that of the worst reply: a message may be COMPLETED while its reply is dead."""
    text = Text(state_of(message), style=STYLES.get(message.state, ""))
    worst = max((reply.state for reply in message.replies), key=WORSE.index, default=None)
    if worst is not None and worst != dialog_pb2.REPLY_STATE_RETURNED:
        label = enum_label("ReplyState", dialog_pb2.ReplyState.Name(worst)).lower()
        text.append(f", reply {label}", style="red" if worst == dialog_pb2.REPLY_STATE_DEAD else "dim")
    if waits := briefly(message.waiting):
        text.append(f", {waits}", style="dim")
    return text


def sender_of(message: dialog_pb2.Message) -> str:
    """Returns the sender's name, or the provider's id if there is none."""
    return message.sender.display_name or message.sender.identity.value


def print_message(message: dialog_pb2.Message, waits: Mapping[str, waiting_pb2.Waiting]) -> None:
    usage = message.usage
    print_fields(
        {
            "id": message.message_id,
            "channel": message.channel_id,
            "bot": message.bot_id,
            "conversation": message.conversation_id,
            "contact": message.contact_id,
            "from": sender_of(message),
            "text": message.content.text,
            "state": state_in_words(message),
            "waits": in_words(message.waiting),
            "rejection": enum_label("RejectionReason", dialog_pb2.RejectionReason.Name(message.rejection)),
            "outcome": enum_label("TurnOutcome", dialog_pb2.TurnOutcome.Name(message.outcome)),
            "attempts": message.attempts,
            "last error": message.last_error,
            "terminal reason": message.terminal_reason,
            "received": clock(message.received_at),
            "started": clock(message.started_at),
            "generated": clock(message.generated_at),
            "sent": clock(message.sent_at),
            "completed": clock(message.completed_at),
            "model": f"{usage.calls} calls, {usage.input_tokens} + {usage.output_tokens} tokens" if usage.calls else "",
            "trace": message.trace_id,
        }
    )
    for reply in message.replies:
        heading = Text("\nreply ").append(reply_state(reply), style=REPLY_STYLES.get(reply.state, ""))
        heading.append(f", delivery {reply.delivery_id}" if reply.delivery_id else "")
        heading.append(f", {clock(reply.sent_at)}" if reply.HasField("sent_at") else "")
        console().print(heading, soft_wrap=True)
        if reply.delivery_id in waits and (why := in_words(waits[reply.delivery_id])):
            console().print(Text(f"waits: {why}", style="yellow"), soft_wrap=True)
        if reply.error:
            console().print(Text(reply.error, style="red"), soft_wrap=True)
        typer.echo(reply.content.text)
