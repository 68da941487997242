"""Removes the traces of tenants that keep theirs for fewer days than the settings say, before their day is dropped."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.runtime.retention import AT_ONCE, Step, Task, days_ago
from services.telemetry.postgres.store import SQL

if TYPE_CHECKING:
    from services.runtime.postgres import Pool, PoolConnection


async def plan(
    pool: "Pool", days_of: Callable[[str], Awaitable[int | None]], most: int, now: datetime
) -> Sequence[Task]:
    """Returns the tasks of now. `days_of` returns the days for which a tenant's traces are kept, or None for an unknown
    tenant. `most` is the number of days for which all traces are kept."""
    tasks = []
    for row in await pool.fetch(SQL["tenants"]):
        days = await days_of(row["tenant_id"])
        if days is not None and days < most:
            tasks.append(forgetting(row["tenant_id"], days_ago(now, days)))
    return tasks


def forgetting(tenant_id: str, before: datetime) -> Task:
    """Removes a tenant's traces from before a time. While a day is being thinned out it waits for the next look, as the
    thinning would put back what is removed meanwhile."""

    async def step(connection: "PoolConnection", _: UUID | None) -> Step:
        if not await connection.fetchval(SQL["try_turn"]):
            return Step(0, more=False)
        removed = int(await connection.fetchval(SQL["forget"], AT_ONCE, tenant_id, before))
        return Step(removed, removed >= AT_ONCE)

    return Task(f"traces of {tenant_id}", step)
