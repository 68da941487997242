"""What delivery removes when it is old enough."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.delivery.postgres.partitions import DELIVERIES, PARTITIONS, PROVIDER_IDS
from services.runtime.partitions import first_id
from services.runtime.queries import load_queries, tenants_in
from services.runtime.retention import Task, days_ago, deleting, dropping, longest, walking

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

SQL = load_queries(Path(__file__).with_name("retention.sql"), **tenants_in("delivery.deliveries", "delivery.dead"))
REQUEST_IDS = timedelta(days=30)
"""How long a repeated SendMessage is known as such."""
DELETED = timedelta(days=7)
"""How long a process may go without a look at the channels and still learn which are gone."""
SILENT = timedelta(days=7)
"""A lane that has nothing left is kept for so long still."""


async def plan(
    pool: "Pool", days_of: Callable[[str], Awaitable[int | None]], default: int, now: datetime
) -> Sequence[Task]:
    """The tasks of now. `days_of` says for how many days a tenant's deliveries are kept, 0 for ever; None when it does
    not know the tenant. It raises when it cannot know: then nothing is removed."""
    tenants = [row["tenant_id"] for row in await pool.fetch(SQL["tenants"])]
    kept = {}
    for tenant_id in tenants:
        days = await days_of(tenant_id)
        kept[tenant_id] = default if days is None else days
    most = longest([*kept.values(), default])
    tasks: list[Task] = []
    if most is not None:
        for table in (DELIVERIES, PROVIDER_IDS):
            tasks += dropping(PARTITIONS, table, days_ago(now, most))
    for tenant_id, days in kept.items():
        if days and days != most:
            before = first_id(days_ago(now, days))
            tasks.append(deleting(f"deliveries of {tenant_id}", SQL["deliveries"], tenant_id, before))
        tasks.append(walking(f"dead letters of {tenant_id}", SQL["dead"], tenant_id))
    tasks.append(deleting("request ids", SQL["dedupe"], now - REQUEST_IDS))
    tasks.append(deleting("deleted channels", SQL["deleted_channels"], now - DELETED))
    tasks.append(walking("silent lanes", SQL["lanes"], now - SILENT))
    return tasks
