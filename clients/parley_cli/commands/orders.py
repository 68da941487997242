"""`parley orders`: lists the orders that forms have written."""

from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from parley.dialog.v1 import order_pb2

from parley_cli.local import perform
from parley_cli.output import DEFAULT_TENANT, Count, Json, Tenant, as_dict, clock, print_json, print_table

app = typer.Typer(help="Orders that forms have written.", no_args_is_help=True)


@app.callback()
def orders() -> None:
    """Orders that forms have written."""


@app.command("list")
def list_orders(
    conversation: Annotated[str, typer.Option(help="Only this conversation.")] = "",
    bot: Annotated[str, typer.Option(help="Only this bot.")] = "",
    count: Count = 50,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List orders, newest first."""
    request = order_pb2.ListOrdersRequest(tenant_id=tenant, conversation_id=conversation, bot_id=bot, page_size=count)
    found = perform(tenant, lambda session: session.orders.list_orders(request)).orders
    if as_json:
        print_json([show_order(order) for order in found])
        return
    rows = [
        (order.order_id, order.bot_id, order.conversation_id, fields_in_words(order), clock(order.created_at))
        for order in found
    ]
    print_table(("id", "bot", "conversation", "fields", "created"), rows, empty="no orders")


def show_order(order: order_pb2.Order) -> dict[str, object]:
    return as_dict(order, id="order_id") | {"fields": fields_of(order)}


def fields_of(order: order_pb2.Order) -> dict[str, object]:
    """Returns the slots, with whole numbers as integers, which a Struct cannot hold."""
    fields: dict[str, object] = MessageToDict(order.fields)
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in fields.items()
    }


def fields_in_words(order: order_pb2.Order) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fields_of(order).items())
