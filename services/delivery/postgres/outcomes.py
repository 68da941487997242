"""The queue of what dialog has not acknowledged."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.delivery.domain.outbox import Outcome, ReplyState
from services.delivery.usecases.ports import Said
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

QUERIES = load_queries(Path(__file__).parent / "outcomes.sql")


class PostgresOutcomeStore:
    """`OutcomeStore` on Postgres."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def older(self, age: timedelta, limit: int) -> Sequence[Said]:
        rows = await self._pool.fetch(QUERIES["older"], age, limit)
        return [
            Said(outcome_id, Outcome(tenant_id, delivery_id, message_id, index, ReplyState(state), *rest))
            for outcome_id, tenant_id, delivery_id, message_id, index, state, *rest in rows
        ]

    async def refuse(self, outcome_ids: Collection[int], tries: int) -> Collection[int]:
        return {row[0] for row in await self._pool.fetch(QUERIES["refuse"], sorted(outcome_ids), tries)}

    async def forget(self, outcome_ids: Collection[int]) -> None:
        await self._pool.execute(QUERIES["forget"], list(outcome_ids))
