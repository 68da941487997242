"""`parley deliveries`: lists, shows and retries outgoing messages."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.text import Text

from parley.delivery.v1 import delivery_pb2

from parley_cli.confirm import confirm
from parley_cli.durations import Since
from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.options import PartState
from parley_cli.output import (
    DEFAULT_TENANT,
    Count,
    Json,
    Tenant,
    Yes,
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
from parley_client.errors import CallError

app = typer.Typer(help="Outgoing messages and what became of them.", no_args_is_help=True)

DeliveryId = Annotated[str, typer.Argument(help="The delivery's id.")]
Channel = Annotated[str, typer.Option("--channel", help="Only this channel.")]
State = Annotated[
    PartState | None, typer.Option("--state", case_sensitive=False, help="Only deliveries with a part in this state.")
]
STYLES = {
    delivery_pb2.PART_STATE_SENT: "green",
    delivery_pb2.PART_STATE_UNKNOWN: "yellow",
    delivery_pb2.PART_STATE_DEAD: "red",
}
WORSE = [
    delivery_pb2.PART_STATE_UNSPECIFIED,
    delivery_pb2.PART_STATE_SENT,
    delivery_pb2.PART_STATE_STARTED,
    delivery_pb2.PART_STATE_PENDING,
    delivery_pb2.PART_STATE_UNKNOWN,
    delivery_pb2.PART_STATE_DEAD,
]
"""States of parts, best first."""
PAGE = 200


@app.command("list")
def list_deliveries(
    state: State = None,
    channel: Channel = "",
    message: Annotated[str, typer.Option("--message", help="Only replies to this message.")] = "",
    since: Since = None,
    count: Count = 50,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first."""
    request = filter_of(tenant, state, channel, message)
    request.page_size = count
    page = perform(tenant, lambda session: session.delivery.list_deliveries(request)).deliveries
    found = [delivery for delivery in page if is_since(delivery.created_at, since)]
    if as_json:
        print_json([show_delivery(delivery) for delivery in found])
        return
    rows = [
        (
            delivery.delivery_id,
            brief(delivery.created_at),
            state_in_words(delivery),
            delivery.channel_id,
            tries(delivery),
            last_error(delivery) or delivery.content.text,
        )
        for delivery in found
    ]
    columns = ("id", "stored", "state", "channel", "tries", "error or text")
    print_table(columns, rows, empty="no deliveries", gives_way="error or text")


@app.command("show")
def show(delivery_id: DeliveryId, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a delivery with its parts and every attempt to send them."""
    request = delivery_pb2.GetDeliveryRequest(tenant_id=tenant, delivery_id=delivery_id)
    delivery = perform(tenant, lambda session: session.delivery.get_delivery(request)).delivery
    if as_json:
        print_json(show_delivery(delivery))
    else:
        print_delivery(delivery)


@app.command("retry")
def retry(
    delivery_id: Annotated[
        str, typer.Argument(help="The delivery's id; without one, all that the options select.")
    ] = "",
    channel: Channel = "",
    since: Since = None,
    yes: Yes = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Send dead deliveries again: one, or all dead ones of a channel or of the last hours.

    The command selects first and shows how many; it does not send deliveries that die meanwhile.
    """
    if bool(delivery_id) == bool(channel or since is not None):
        raise Fault("say which deliveries", "Give an id, or select dead deliveries with --channel, --since or both.")

    async def choose(session: Session) -> list[str]:
        request = filter_of(tenant, PartState.dead, channel, "")
        return [delivery.delivery_id async for delivery in every(session, request, since)]

    async def send(session: Session) -> dict[str, list[Any]]:
        done: dict[str, list[Any]] = {"retried": [], "failed": []}
        for each in reversed(chosen):  # oldest first, as they were meant to arrive
            try:
                await retry_delivery(session, each)
                done["retried"].append(each)
            except CallError as error:
                done["failed"].append({"delivery_id": each, "error": error.message})
        return done

    chosen = [delivery_id] if delivery_id else perform(tenant, choose)
    if not delivery_id and chosen:
        confirm(f"Send {len(chosen)} dead deliveries again?", yes=yes)
    done = perform(tenant, send)
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{len(done['retried'])} of {len(chosen)} queued again")
        for failed in done["failed"]:
            typer.secho(f"{failed['delivery_id']}: {failed['error']}", err=True, fg="red")
    if done["failed"]:
        raise typer.Exit(1)


def filter_of(tenant: str, state: PartState | None, channel: str, message: str) -> delivery_pb2.ListDeliveriesRequest:
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=tenant, channel_id=channel, message_id=message)
    if state is not None:
        request.part_state = delivery_pb2.PartState.Value(f"PART_STATE_{state.value.upper()}")
    return request


async def every(
    session: Session, request: delivery_pb2.ListDeliveriesRequest, since: float | None
) -> AsyncIterator[delivery_pb2.Delivery]:
    """Yields deliveries from all pages, newest first, back to `since`."""
    request.page_size = PAGE
    while True:
        page = await session.delivery.list_deliveries(request)
        for delivery in page.deliveries:
            if not is_since(delivery.created_at, since):
                return
            yield delivery
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def retry_delivery(session: Session, delivery_id: str) -> delivery_pb2.Delivery:
    """Sends the dead parts of a delivery again. Raises `CallError`."""
    request = delivery_pb2.RetryDeliveryRequest(
        tenant_id=session.tenant, delivery_id=delivery_id, request_id=f"cli-{uuid4()}"
    )
    return (await session.delivery.retry_delivery(request)).delivery


def worst(delivery: delivery_pb2.Delivery) -> delivery_pb2.PartState.ValueType:
    """Returns the state of the worst part."""
    return max((part.state for part in delivery.parts), key=WORSE.index, default=delivery_pb2.PART_STATE_PENDING)


def state_of(delivery: delivery_pb2.Delivery) -> str:
    return enum_label("PartState", delivery_pb2.PartState.Name(worst(delivery)))


def state_in_words(delivery: delivery_pb2.Delivery) -> Text:
    """Returns the state and what the delivery waits for."""
    text = Text(state_of(delivery), style=STYLES.get(worst(delivery), ""))
    if waits := briefly(delivery.waiting):
        text.append(f", {waits}", style="dim")
    return text


def tries(delivery: delivery_pb2.Delivery) -> int:
    return sum(part.attempts[-1].number for part in delivery.parts if part.attempts)


def last_error(delivery: delivery_pb2.Delivery) -> str:
    """Returns the last error of a delivery that has not been sent; nothing if all is well."""
    if worst(delivery) == delivery_pb2.PART_STATE_SENT:
        return ""
    errors = [part.attempts[-1].error for part in delivery.parts if part.attempts and part.attempts[-1].error]
    return errors[-1] if errors else ""


def show_delivery(delivery: delivery_pb2.Delivery) -> dict[str, Any]:
    return as_dict(delivery, id="delivery_id") | {
        "state": state_of(delivery),
        "text": delivery.content.text,
        "error": last_error(delivery),
    }


def print_delivery(delivery: delivery_pb2.Delivery) -> None:
    print_fields(
        {
            "id": delivery.delivery_id,
            "state": Text(state_of(delivery), style=STYLES.get(worst(delivery), "")),
            "waits": in_words(delivery.waiting),
            "channel": delivery.channel_id,
            "conversation": delivery.conversation_id,
            "message": delivery.message_id,
            "stored": clock(delivery.created_at),
            "sent": clock(delivery.sent_at),
            "delivered": clock(delivery.delivered_at),
            "read": clock(delivery.read_at),
            "trace": delivery.trace_id,
        }
    )
    out = console()
    for part in delivery.parts:
        state = enum_label("PartState", delivery_pb2.PartState.Name(part.state))
        heading = Text(f"\npart {part.index + 1} of {len(delivery.parts)} ")
        heading.append(state, style=STYLES.get(part.state, ""))
        heading.append(f", due {clock(part.due_at)}" if part.HasField("due_at") else "")
        heading.append(", possibly twice" if part.possibly_duplicate else "")
        if part.unknown_statuses:
            heading.append(f", {part.unknown_statuses} statuses in unknown words, last {part.last_unknown_status!r}")
        out.print(heading, soft_wrap=True)
        for attempt in part.attempts:
            code = f" HTTP {attempt.http_status}" if attempt.http_status else ""
            line = f"  try {attempt.number} at {clock(attempt.started_at)}:{code} {came_of(attempt)}"
            out.print(Text(line, "dim"), soft_wrap=True)
        typer.echo(part.text)


def came_of(attempt: delivery_pb2.Attempt) -> str:
    """Says how an attempt ended and what the provider has reported since."""
    failure = enum_label("FailureKind", delivery_pb2.FailureKind.Name(attempt.failure)).lower().replace("_", " ")
    known = attempt.error or failure or ("sent" if attempt.HasField("ended_at") else "under way")
    said = enum_label("ProviderStatus", delivery_pb2.ProviderStatus.Name(attempt.status)).lower()
    return f"{known}, reported {said}" if said else known
