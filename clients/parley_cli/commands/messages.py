"""`parley messages`: what came in, and what became of it."""

from typing import Annotated
from uuid import uuid4

import typer

from parley.dialog.v1 import dialog_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import (
    DEFAULT_TENANT,
    Count,
    Json,
    Tenant,
    as_dict,
    clock,
    enum_label,
    print_fields,
    print_json,
    print_table,
)

app = typer.Typer(help="What came in, and what became of it.", no_args_is_help=True)
STATES = [name.removeprefix("MESSAGE_STATE_") for name, number in dialog_pb2.MessageState.items() if number]
MessageId = Annotated[str, typer.Argument(help="The message's id.")]


@app.command("list")
def list_messages(
    state: Annotated[list[str] | None, typer.Option("--state", help=f"Only these: {', '.join(STATES)}.")] = None,
    conversation: Annotated[str, typer.Option(help="Only this conversation.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel.")] = "",
    count: Count = 50,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List messages, newest first."""
    request = dialog_pb2.ListMessagesRequest(
        tenant_id=tenant,
        states=[parse_state(name) for name in state or ()],
        conversation_id=conversation,
        channel_id=channel,
        page_size=count,
    )
    messages = perform(tenant, lambda session: session.dialog.list_messages(request)).messages
    if as_json:
        print_json([show_message(message) for message in messages])
        return
    rows = [
        (
            message.message_id,
            message.channel_id,
            message.conversation_id,
            state_of(message),
            message.attempts,
            clock(message.received_at),
            clock(message.completed_at),
        )
        for message in messages
    ]
    columns = ("id", "channel", "conversation", "state", "attempts", "received", "completed")
    print_table(columns, rows, empty="no messages")


@app.command("show")
def show(message_id: MessageId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show one message with its states, replies and usage."""
    message = perform(tenant, lambda session: get_message(session, message_id))
    if as_json:
        print_json(show_message(message))
        return
    print_message(message)


@app.command("retry")
def retry(message_id: MessageId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Answer a FAILED or TERMINAL message anew."""
    request = dialog_pb2.RetryMessageRequest(tenant_id=tenant, message_id=message_id, request_id=f"cli-{uuid4()}")
    message = perform(tenant, lambda session: session.dialog.retry_message(request)).message
    if as_json:
        print_json(show_message(message))
    else:
        typer.echo(f"{message.message_id} is queued again; `parley messages show {message.message_id}` follows it.")


async def get_message(session: Session, message_id: str) -> dialog_pb2.Message:
    """One message. Raises `CallError`."""
    request = dialog_pb2.GetMessageRequest(tenant_id=session.tenant, message_id=message_id)
    return (await session.dialog.get_message(request)).message


def show_message(message: dialog_pb2.Message) -> dict[str, object]:
    return as_dict(message, id="message_id")


def state_of(message: dialog_pb2.Message) -> str:
    return enum_label("MessageState", dialog_pb2.MessageState.Name(message.state))


def parse_state(name: str) -> dialog_pb2.MessageState.ValueType:
    if name.upper() not in STATES:
        raise Fault(f"--state {name!r} is no state", f"States are {', '.join(STATES)}.")
    return dialog_pb2.MessageState.Value(f"MESSAGE_STATE_{name.upper()}")


def print_message(message: dialog_pb2.Message) -> None:
    usage = message.usage
    print_fields(
        {
            "id": message.message_id,
            "channel": message.channel_id,
            "bot": message.bot_id,
            "conversation": message.conversation_id,
            "contact": message.contact_id,
            "text": message.content.text,
            "state": state_of(message),
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
        state = enum_label("ReplyState", dialog_pb2.ReplyState.Name(reply.state))
        typer.echo(f"\nreply ({state}{', delivery ' + reply.delivery_id if reply.delivery_id else ''})")
        typer.echo(reply.content.text)
