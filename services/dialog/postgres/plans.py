"""Commits the plans of many turns, and the rows that go with them, in one statement."""

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from parley_client.coalesce import Coalescer
from services.dialog.postgres.database import Database, columns, or_fail_together
from services.dialog.postgres.sealing import Sealing
from services.dialog.records import pack_plan, plain_json
from services.dialog.turns import NewPlan
from services.kernel.errors import ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.lanes import LeaseLost

_REMEMBERED = 5_000
"""Conversations whose contact is known to be noted; a further one costs a row lock, and 500 bytes here."""


class PlanCommits:
    """A group commit of plans."""

    def __init__(self, database: Database, sql: str, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing
        self._sql = sql
        self._contacts: OrderedDict[UUID, str] = OrderedDict()
        self._coalescer: Coalescer[NewPlan, None] = Coalescer(
            self._commit, max_in_flight=2, key=lambda new: new.lease.lane_id, isolate=True
        )

    async def call(self, new: NewPlan) -> None:
        """Commit a plan. Raises LeaseLost when the lane is another's; then nothing of it was written."""
        await self._coalescer.submit(new)

    async def _commit(self, plans: list[NewPlan]) -> Sequence[Exception | None]:
        met = [new for new in plans if self._contacts.get(new.lease.lane_id) != new.plan.contact_id]
        arguments = [
            *columns([_turn(new, self._sealing) for new in plans], 14),
            *columns([order for new in plans for order in _orders(new)], 11),
            *columns([_ended(new) for new in plans if new.ended], 9),
            *columns([(new.lease.lane_id, UUID(new.plan.contact_id)) for new in met if new.plan.contact_id], 2),
            *columns([_standing(new) for new in plans if new.plan.decided.dialog is not None], 10),
        ]
        crashpoints.reach("dialog.before_plan_commit")
        rows = await or_fail_together(self._database.fetch(self._sql, *arguments))
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


def _turn(new: NewPlan, sealing: Sealing) -> tuple[object, ...]:
    plan, usage = new.plan, new.usage
    return (
        new.lease.lane_id,
        new.lease.fence,
        plan.last_seq,
        plan.first_seq,
        plan.turn_id,
        new.lease.tenant_id,
        new.message_id,
        plan.outcome,
        sealing.plan(new.lease.tenant_id, plan.turn_id, pack_plan(plan)),
        usage.input_tokens,
        usage.output_tokens,
        usage.price_micros_usd,
        usage.calls,
        new.started_at,
    )


def _orders(new: NewPlan) -> list[tuple[object, ...]]:
    request = new.request
    order_ids = sorted(uuid7() for _ in new.orders)  # in the order of the plan, even within a millisecond
    contact_id = UUID(new.plan.contact_id) if new.plan.contact_id else None
    return [
        (
            new.lease.lane_id,
            request.tenant_id,
            order_ids[index],
            new.plan.turn_id,
            index,
            request.bot_id,
            request.channel_id,
            contact_id,
            new.message_id,
            order.form_id,
            plain_json(order.fields),
        )
        for index, order in enumerate(new.orders)
    ]


def _ended(new: NewPlan) -> tuple[object, ...]:
    ended, request = new.ended, new.request
    assert ended is not None
    return (
        new.lease.lane_id,
        new.plan.turn_id,
        request.tenant_id,
        request.bot_id,
        request.channel_id,
        ended.completed,
        ended.dropoff_step,
        ended.message_count,
        ended.duration,
    )


def _standing(new: NewPlan) -> tuple[object, ...]:
    """Where the dialog stands after a plan that changes it."""
    opened, request = new.plan.decided.open, new.request
    return (
        new.lease.lane_id,
        new.plan.turn_id,
        request.tenant_id,
        request.bot_id,
        request.channel_id,
        opened.step if opened else None,
        opened.message_count if opened else 0,
        opened.started_at if opened else None,
        new.plan.dialog_ttl,
        new.ended is not None,
    )
