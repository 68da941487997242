"""`parley trace`: shows where a message's time went."""

import asyncio
import time
from typing import Annotated

import typer

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2
from parley.telemetry.v1 import telemetry_pb2

from parley_cli import trace_view
from parley_cli.commands.messages import get_message
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, print_json
from parley_client.errors import NotFound, Unavailable

PATIENCE = 3.0
"""Seconds to wait for the spans of a message that has just finished, because processes send spans in batches."""


def trace(
    message_id: Annotated[str, typer.Argument(help="The message's id.")],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Show a message's way from webhook to provider as a tree with times.

    If its spans were not kept, show the stored states instead.
    """
    story = perform(tenant, lambda session: collect(session, message_id))
    if as_json:
        print_json(trace_view.as_json(*story))
    else:
        trace_view.show(*story)


async def collect(
    session: Session, message_id: str
) -> tuple[dialog_pb2.Message, list[delivery_pb2.Delivery], list[telemetry_pb2.Span]]:
    """Reads the message, its deliveries and its spans, if there are any. Raises `CallError`."""
    message = await get_message(session, message_id)
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=session.tenant, message_id=message_id, page_size=500)
    deliveries = (await session.delivery.list_deliveries(request)).deliveries
    return message, list(reversed(deliveries)), await spans_of(session, message)


async def spans_of(session: Session, message: dialog_pb2.Message) -> list[telemetry_pb2.Span]:
    """Reads the spans of the message's trace, and waits for them if the message has just finished."""
    if not message.trace_id:
        return []
    ended = max(message.completed_at.seconds, message.sent_at.seconds, message.received_at.seconds)
    patience = PATIENCE if time.time() - ended < 2 * PATIENCE else 0.0
    deadline = time.monotonic() + patience
    before = -1
    while True:
        spans = await ask(session, message.trace_id)
        if time.monotonic() >= deadline or (spans and len(spans) == before):
            return spans
        before = len(spans)
        await asyncio.sleep(0.6)


async def ask(session: Session, trace_id: str) -> list[telemetry_pb2.Span]:
    request = telemetry_pb2.GetTraceRequest(tenant_id=session.tenant, trace_id=trace_id)
    try:
        return list((await session.telemetry.get_trace(request)).spans)
    except (NotFound, Unavailable):  # not sampled, no longer kept, or telemetry is away: the stored states remain
        return []
