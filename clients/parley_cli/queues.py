"""What waits and what is dead, as counted by the services."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_cli.durations import format_seconds
from parley_cli.local import Session, perform
from parley_cli.output import as_dict
from parley_cli.waits import counted
from parley_client.errors import CallError

PATIENCE = 3.0
"""Seconds to wait for a service."""
SAMPLE = 200
"""How many messages and replies are asked what they wait for."""
WAITING = (dialog_pb2.MESSAGE_STATE_RECEIVED, dialog_pb2.MESSAGE_STATE_FAILED)
LATE = 60.0
"""Seconds of waiting from which an operator is told."""


def queues_of(stack: Mapping[str, Any], tenant: str = "") -> dict[str, Any]:
    """Counts `inbox` and `outbox` for one tenant or for all; `error` replaces counts that cannot be had."""

    async def ask(call: Awaitable[Message]) -> dict[str, Any]:
        try:
            return as_dict(await call)
        except CallError as error:
            return {"error": error.message}

    async def work(session: Session) -> dict[str, Any]:
        inbox = session.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id=tenant), timeout=PATIENCE)
        outbox = session.delivery.get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=tenant), timeout=PATIENCE)
        asked = dict(zip(("inbox", "outbox"), await asyncio.gather(ask(inbox), ask(outbox)), strict=True))
        return asked

    if not {"dialog", "delivery"} <= stack["addresses"].keys():
        return {}
    return perform(tenant, work)


def reasons_of(tenants: Iterable[str]) -> list[str]:
    """Says for each tenant what its latest waiting messages and replies wait for."""

    async def work(session: Session) -> str:
        inbox = dialog_pb2.ListMessagesRequest(tenant_id=session.tenant, states=WAITING, page_size=SAMPLE)
        outbox = delivery_pb2.ListDeliveriesRequest(
            tenant_id=session.tenant, part_state=delivery_pb2.PART_STATE_PENDING, page_size=SAMPLE
        )
        try:
            messages = (await session.dialog.list_messages(inbox, timeout=PATIENCE)).messages
            replies = (await session.delivery.list_deliveries(outbox, timeout=PATIENCE)).deliveries
        except CallError as error:
            return error.message
        waits = [(message.waiting, "messages") for message in messages]
        waits += [(delivery.waiting, "replies") for delivery in replies]
        sentences = [
            f"{what}: {counted(waiting for waiting, kind in waits if kind == what)}" for what in ("messages", "replies")
        ]
        return "; ".join(sentence for sentence in sentences if not sentence.endswith(": "))

    found = {tenant: perform(tenant, work) for tenant in tenants}
    return [f"{tenant}: {reasons}" for tenant, reasons in found.items() if reasons]


def backlog(queues: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists what an operator should know about the queues, each with the command that shows more."""
    found = []
    inbox, outbox = queues.get("inbox", {}), queues.get("outbox", {})
    if dead := inbox.get("dead"):
        found.append((f"{dead} dead messages", "parley messages list --state terminal"))
    if failed := inbox.get("failed"):
        found.append((f"{failed} messages failed and are tried again", "parley messages list --state failed"))
    if parked := inbox.get("parked"):
        found.append((f"{parked} messages wait for disabled bots", "parley messages list --state received"))
    if (waited := seconds(inbox.get("oldest_waiting"))) > LATE:
        found.append((f"a message waits for {format_seconds(waited)}", "parley messages list --state received"))
    if dead := outbox.get("dead"):
        found.append((f"{dead} dead replies", "parley deliveries list --state dead"))
    if unknown := outbox.get("unknown"):
        found.append((f"{unknown} replies of unknown outcome", "parley deliveries list --state unknown"))
    if (waited := seconds(outbox.get("oldest_waiting"))) > LATE:
        found.append((f"a reply waits for {format_seconds(waited)}", "parley deliveries list --state pending"))
    return found


def seconds(value: object) -> float:
    """Returns the seconds of a duration in JSON, such as `3.5s`."""
    return float(value.removesuffix("s")) if isinstance(value, str) and value else 0.0
