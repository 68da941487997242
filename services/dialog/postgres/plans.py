"""Commits the plans of many turns, and the rows that go with them, in one statement."""

from collections.abc import Sequence
from uuid import UUID

from cachetools import LRUCache

from parley_client.coalesce import Coalescer
from services.dialog.domain.flows import OrderDraft
from services.dialog.domain.items import DropOff, left_open
from services.dialog.domain.turns import Planned
from services.dialog.postgres.database import Database, or_fail_together
from services.dialog.postgres.queries import Query, Row
from services.dialog.postgres.records import pack_plan, plain_json
from services.dialog.postgres.sealing import Sealing
from services.kernel.errors import ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.lanes import LeaseLost

_REMEMBERED = 5_000
"""Conversations whose contact is known to be noted; a further one costs a row lock, and 500 bytes here."""


class PlanCommits:
    """A group commit of plans."""

    def __init__(self, database: Database, query: Query, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing
        self._query = query
        self._contacts: LRUCache[UUID, str] = LRUCache(_REMEMBERED)
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
            orders=[row for new in plans for row in order_rows(new.plan.turn_id, new.plan.decided.orders)],
            ends=[row for new in plans for row in _ended(new)],
            met=[_met(new) for new in met if new.plan.contact_id],
        )
        crashpoints.reach("dialog.before_plan_commit")
        rows = await or_fail_together(self._database.fetch(self._query.sql, *arguments))
        if isinstance(rows, ParleyError):
            return [rows] * len(plans)
        crashpoints.reach("dialog.after_plan_commit")
        held = {row["lane_id"] for row in rows}
        for new in met:
            self._contacts[new.lease.lane_id] = new.plan.contact_id
        return [
            None if new.lease.lane_id in held else LeaseLost(f"the lease of lane {new.lease.lane_id} is lost")
            for new in plans
        ]


def _plan(new: Planned, sealing: Sealing) -> Row:
    """A turn with its plan, and whose it is."""
    plan, usage, request = new.plan, new.plan.decided.usage, new.last.request
    return {
        "conversation_id": new.lease.lane_id,
        "last_seq": plan.last_seq,
        "first_seq": plan.first_seq,
        "turn_id": plan.turn_id,
        "tenant_id": new.lease.tenant_id,
        "bot_id": request.bot_id,
        "channel_id": request.channel_id,
        "contact_id": UUID(plan.contact_id) if plan.contact_id else None,
        "message_id": new.last.message_id,
        "outcome": plan.outcome,
        "plan": sealing.plan(new.lease.tenant_id, plan.turn_id, pack_plan(plan)),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "price_micros_usd": usage.price_micros_usd,
        "model_calls": usage.calls,
        "started_at": new.started_at,
    }


def _met(new: Planned) -> Row:
    """Whose conversation it is."""
    return {"conversation_id": new.lease.lane_id, "contact_id": UUID(new.plan.contact_id)}


def order_rows(turn_id: UUID, orders: Sequence[OrderDraft]) -> list[Row]:
    """Orders in their order, even within a millisecond."""
    order_ids = sorted(uuid7() for _ in orders)
    return [
        {
            "turn_id": turn_id,
            "order_id": order_ids[place],
            "place": place,
            "form_id": order.form_id,
            "fields": plain_json(order.fields),
        }
        for place, order in enumerate(orders)
    ]


def _ended(new: Planned) -> list[Row]:
    """The dialog that a turn ends, and the form in whose place it begins another."""
    decided, request = new.plan.decided, new.last.request
    form, ended = left_open(new.lease.timers, decided), decided.ended
    rows = [drop_off_row(new.lease.lane_id, form)] if form is not None else []
    if ended is not None:
        rows.append(
            {
                "conversation_id": new.lease.lane_id,
                "turn_id": new.plan.turn_id,
                "bot_id": request.bot_id,
                "channel_id": request.channel_id,
                "completed": ended.completed,
                "dropoff_step": ended.dropoff_step,
                "message_count": ended.message_count,
                "duration": ended.duration,
                "ended_at": None,  # now
            }
        )
    return rows


def drop_off_row(conversation_id: UUID, form: DropOff) -> Row:
    """The end of a form that was left."""
    return {
        "conversation_id": conversation_id,
        "turn_id": form.turn_id,
        "bot_id": form.bot_id,
        "channel_id": form.channel_id,
        "completed": False,
        "dropoff_step": form.step,
        "message_count": form.message_count,
        "duration": form.active_at - form.started_at,
        "ended_at": form.active_at,
    }
