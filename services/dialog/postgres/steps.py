"""The journal: steps of turns, each done once. What many turns do at the same time is one statement."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from parley_client.coalesce import Coalescer
from services.dialog.domain.flows import Act
from services.dialog.domain.turns import (
    StepBegun,
    StepDone,
    StepEnd,
    Turn,
)
from services.dialog.postgres.database import Database, or_fail_together
from services.dialog.postgres.plans import order_rows
from services.dialog.postgres.queries import Query, Row, queries
from services.dialog.postgres.records import from_json, pack_inputs, plain_json
from services.dialog.postgres.sealing import Sealing
from services.kernel.errors import ParleyError
from services.runtime import crashpoints
from services.runtime.lanes import LeaseLost

_DONE, _FAILED = 2, 3
ROUNDS = 5
"""Looks for the end of a commit whose answer was lost."""


class Step(NamedTuple):
    """A step to begin, or with an act to do."""

    turn: Turn
    name: str
    request_sha256: bytes
    act: Act | None = None


class PostgresSteps:
    """Begins, ends and does steps under the lanes' fences."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing
        self._queries = queries("steps")
        self._begins: Coalescer[Step, StepBegun | StepDone] = Coalescer(self._begin, max_in_flight=2, isolate=True)
        # One at a time, so that the acts of a turn that are done side by side see one another's orders.
        self._acts: Coalescer[Step, StepDone] = Coalescer(self._act, max_in_flight=1, isolate=True)

    async def begin(self, turn: Turn, step: str, request_sha256: bytes) -> StepBegun | StepDone:
        """Note that a call is about to be made, unless it is done. Raises LeaseLost."""
        return await self._begins.submit(Step(turn, step, request_sha256))

    async def act(self, turn: Turn, step: str, request_sha256: bytes, act: Act) -> StepDone:
        """Write the rows of an act with its result in one commit, unless it is done. Raises LeaseLost."""
        return await self._acts.submit(Step(turn, step, request_sha256, act))

    async def end(self, turn: Turn, step: str, number: int, end: StepEnd) -> None:
        """Note how a call ended, and what a call of a model says of its tokens and price."""
        sealed, result = None, end.result or {}
        if end.result is not None:
            sealed = self._sealing.result(turn.lease.tenant_id, turn.turn_id, step, plain_json(result))
        numbers = [int(result.get(name, 0)) for name in ("input_tokens", "output_tokens", "price_micros_usd")]
        arguments = (_FAILED if sealed is None else _DONE, sealed, end.error, str(result.get("model", "")), *numbers)
        await self._database.fetch(self._queries["end"].sql, turn.turn_id, step, number, *arguments)

    async def _begin(self, steps: list[Step]) -> Sequence[StepBegun | StepDone | Exception]:
        found = await self._run(self._queries["begin"], steps)
        if isinstance(found, ParleyError):
            return [found] * len(steps)
        results: list[StepBegun | StepDone | Exception] = []
        for step in steps:
            row = found.get((step.turn.turn_id, step.name))
            if row is None:
                results.append(_lost(step))
            else:
                results.append(StepBegun(row["try"]) if row["try"] is not None else self._done(step, row))
        return results

    async def _act(self, steps: list[Step]) -> Sequence[StepDone | Exception]:
        results = dict[tuple[UUID, str], StepDone | Exception]()
        for _ in range(ROUNDS):
            left = [step for step in steps if (step.turn.turn_id, step.name) not in results]
            if not left:
                break
            crashpoints.reach("dialog.before_act_commit")
            orders = [row for step in left for row in _orders(step)]
            found = await self._run(self._queries["act"], left, orders=orders)
            if isinstance(found, ParleyError):
                results |= {(step.turn.turn_id, step.name): found for step in left}
                break
            crashpoints.reach("dialog.after_act_commit")
            for step in left:
                key = (step.turn.turn_id, step.name)
                row = found.get(key)
                if row is None:
                    results[key] = _lost(step)
                elif row["try"] is not None and step.act is not None:
                    results[key] = StepDone(from_json(plain_json(step.act.result)))
                elif row["request_sha256"] is not None:
                    results[key] = self._done(step, row)
        missing = RuntimeError("an act is neither done nor to be done")
        return [results.get((step.turn.turn_id, step.name), missing) for step in steps]

    async def _run(
        self, query: Query, steps: Sequence[Step], **rows: Sequence[Row]
    ) -> dict[tuple[UUID, str], asyncpg.Record] | ParleyError:
        held = dict(sorted({step.turn.lease.held for step in steps}))
        rows_of_steps = [self._row(step) for step in steps]
        arguments = query.arguments(list(held), list(held.values()), steps=rows_of_steps, **rows)
        found = await or_fail_together(self._database.fetch(query.sql, *arguments))
        if isinstance(found, ParleyError):
            return found
        return {(row["turn_id"], row["step"]): row for row in found}

    def _row(self, step: Step) -> Row:
        turn, result = step.turn, None
        tenant_id = turn.lease.tenant_id
        if step.act is not None:
            result = self._sealing.result(tenant_id, turn.turn_id, step.name, plain_json(step.act.result))
        contact_id = turn.inputs.known.contact_id
        return {
            "conversation_id": turn.lease.lane_id,
            "turn_id": turn.turn_id,
            "step": step.name,
            "tenant_id": tenant_id,
            "request_sha256": step.request_sha256,
            "last_seq": turn.last.seq,
            "first_seq": turn.first.seq,
            "message_id": turn.last.message_id,
            "inputs": self._sealing.inputs(tenant_id, turn.turn_id, pack_inputs(turn.inputs)),
            "started_at": turn.started_at,
            "bot_id": turn.last.request.bot_id,
            "channel_id": turn.last.request.channel_id,
            "contact_id": UUID(contact_id) if contact_id else None,
            "sealed_result": result,
        }

    def _done(self, step: Step, row: asyncpg.Record) -> StepDone:
        result = row["result"]
        if row["sealed_result"] is not None:
            turn = step.turn
            result = self._sealing.open_result(turn.lease.tenant_id, turn.turn_id, step.name, row["sealed_result"])
        return StepDone(from_json(result), row["request_sha256"] == step.request_sha256)


def _orders(step: Step) -> list[Row]:
    orders = step.act.orders if step.act is not None else ()
    return [{**row, "step": step.name} for row in order_rows(step.turn.turn_id, orders)]


def _lost(step: Step) -> LeaseLost:
    lease = step.turn.lease
    return LeaseLost(f"the lease of lane {lease.lane_id} is lost (fence {lease.fence})")
