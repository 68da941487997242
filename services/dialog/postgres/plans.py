"""Commits the plans of many turns, and the rows that go with them, in one statement."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from parley_client.coalesce import Coalescer
from services.dialog.items import DropOff, left_open
from services.dialog.postgres.database import Database, or_fail_together
from services.dialog.postgres.lanes import Query
from services.dialog.postgres.sealing import Sealing
from services.dialog.records import pack_plan, plain_json
from services.dialog.turns import Planned
from services.kernel.errors import ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.lanes import LeaseLost

_REMEMBERED = 5_000
"""Conversations whose contact is known to be noted; a further one costs a row lock, and 500 bytes here."""


class PlanRow(NamedTuple):
    """A turn with its plan, and whose it is."""

    conversation_id: UUID
    last_seq: int
    first_seq: int
    turn_id: UUID
    tenant_id: str
    bot_id: str
    channel_id: str
    contact_id: UUID | None
    message_id: UUID
    outcome: int
    plan: bytes
    input_tokens: int
    output_tokens: int
    price_micros_usd: int
    model_calls: int
    started_at: datetime | None


class OrderRow(NamedTuple):
    turn_id: UUID
    order_id: UUID
    place: int
    form_id: str
    fields: str


class EndedRow(NamedTuple):
    """The end of a dialog, with its last turn; `ended_at` is None for now."""

    conversation_id: UUID
    turn_id: UUID
    bot_id: str
    channel_id: str
    completed: bool
    dropoff_step: str
    message_count: int
    duration: timedelta
    ended_at: datetime | None


class MetRow(NamedTuple):
    """Whose conversation it is."""

    conversation_id: UUID
    contact_id: UUID


class PlanCommits:
    """A group commit of plans."""

    def __init__(self, database: Database, query: Query, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing
        self._query = query
        self._contacts: OrderedDict[UUID, str] = OrderedDict()
        self._coalescer: Coalescer[Planned, None] = Coalescer(
            self._commit, max_in_flight=2, key=lambda new: new.lease.lane_id, isolate=True
        )

    async def call(self, new: Planned) -> None:
        """Commit a plan. Raises LeaseLost when the lane is another's; then nothing of it was written."""
        await self._coalescer.submit(new)

    async def _commit(self, plans: list[Planned]) -> Sequence[Exception | None]:
        met = [new for new in plans if self._contacts.get(new.lease.lane_id) != new.plan.contact_id]
        arguments = self._query.arguments(
            [new.lease.lane_id for new in plans],
            [new.lease.fence for new in plans],
            plans=[_plan(new, self._sealing) for new in plans],
            orders=[row for new in plans for row in _orders(new)],
            ends=[row for new in plans for row in _ended(new)],
            met=[MetRow(new.lease.lane_id, UUID(new.plan.contact_id)) for new in met if new.plan.contact_id],
        )
        crashpoints.reach("dialog.before_plan_commit")
        rows = await or_fail_together(self._database.fetch(self._query.sql, *arguments))
        if isinstance(rows, ParleyError):
            return [rows] * len(plans)
        crashpoints.reach("dialog.after_plan_commit")
        held = {row["lane_id"] for row in rows}
        for new in met:
            self._contacts[new.lease.lane_id] = new.plan.contact_id
        while len(self._contacts) > _REMEMBERED:
            self._contacts.popitem(last=False)
        return [
            None if new.lease.lane_id in held else LeaseLost(f"the lease of lane {new.lease.lane_id} is lost")
            for new in plans
        ]


def _plan(new: Planned, sealing: Sealing) -> PlanRow:
    plan, usage, request = new.plan, new.plan.decided.usage, new.last.request
    return PlanRow(
        conversation_id=new.lease.lane_id,
        last_seq=plan.last_seq,
        first_seq=plan.first_seq,
        turn_id=plan.turn_id,
        tenant_id=new.lease.tenant_id,
        bot_id=request.bot_id,
        channel_id=request.channel_id,
        contact_id=UUID(plan.contact_id) if plan.contact_id else None,
        message_id=new.last.message_id,
        outcome=plan.outcome,
        plan=sealing.plan(new.lease.tenant_id, plan.turn_id, pack_plan(plan)),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        price_micros_usd=usage.price_micros_usd,
        model_calls=usage.calls,
        started_at=new.started_at,
    )


def _orders(new: Planned) -> list[OrderRow]:
    orders = new.plan.decided.orders
    order_ids = sorted(uuid7() for _ in orders)  # in the order of the plan, even within a millisecond
    return [
        OrderRow(new.plan.turn_id, order_ids[index], index, order.form_id, plain_json(order.fields))
        for index, order in enumerate(orders)
    ]


def _ended(new: Planned) -> list[EndedRow]:
    """The dialog that a turn ends, and the form in whose place it begins another."""
    rows = []
    lane_id, request, decided = new.lease.lane_id, new.last.request, new.plan.decided
    form, ended = left_open(new.lease.timers, decided), decided.ended
    if form is not None:
        rows.append(drop_off_row(lane_id, form))
    if ended is not None:
        what = (ended.completed, ended.dropoff_step, ended.message_count, ended.duration, None)
        rows.append(EndedRow(lane_id, new.plan.turn_id, request.bot_id, request.channel_id, *what))
    return rows


def drop_off_row(conversation_id: UUID, form: DropOff) -> EndedRow:
    """The end of a form that was left."""
    what = (False, form.step, form.message_count, form.active_at - form.started_at, form.active_at)
    return EndedRow(conversation_id, form.turn_id, form.bot_id, form.channel_id, *what)
