"""What dialog removes when it is old enough."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from services.dialog.postgres.database import Database
from services.dialog.postgres.stretches import JOURNAL, MESSAGES, PARTITIONS, REPLIES, TURNS
from services.runtime.partitions import first_id
from services.runtime.queries import load_queries
from services.runtime.retention import Task, days_ago, deleting, dropping, longest, walking

SQL = load_queries(Path(__file__).with_name("retention.sql"))
SILENT = timedelta(days=7)
"""A lane that has nothing left is kept for so long still."""


class Days(NamedTuple):
    """For how many days data is kept; 0 for ever."""

    messages: int
    journal: int


async def plan(database: Database, defaults: Days, now: datetime) -> Sequence[Task]:
    """The tasks of now: stretches that are too old for every tenant go whole; of tenants who keep less than the others,
    rows go in small batches."""
    rows = await database.fetch(
        "SELECT tenant_id, coalesce(messages_days, $1) AS messages, coalesce(journal_days, $2) AS journal"
        " FROM dialog.tenants ORDER BY tenant_id",
        *defaults,
    )
    kept = {row["tenant_id"]: Days(row["messages"], row["journal"]) for row in rows}
    everybody = [*kept.values(), defaults]
    tasks: list[Task] = []
    messages, journal = longest([each.messages for each in everybody]), longest([each.journal for each in everybody])
    if messages is not None:
        for table in (MESSAGES, TURNS, REPLIES):
            tasks += dropping(PARTITIONS, table, days_ago(now, messages))
    if journal is not None:
        tasks += dropping(PARTITIONS, JOURNAL, days_ago(now, journal))
    for tenant_id, days in kept.items():
        if days.messages:
            tasks += _of_tenant(tenant_id, days_ago(now, days.messages), rows_too=days.messages != messages)
        if days.journal and days.journal != journal:
            before = first_id(days_ago(now, days.journal))
            tasks.append(walking(f"journal of {tenant_id}", SQL["journal"], tenant_id, before))
    tasks.append(walking("silent lanes", SQL["lanes"], now - SILENT))
    return tasks


def _of_tenant(tenant_id: str, before: datetime, *, rows_too: bool) -> list[Task]:
    tasks = [
        deleting(f"outcomes of {tenant_id}", SQL["outcomes"], tenant_id, before),
        deleting(f"conversations of {tenant_id}", SQL["conversations"], tenant_id, before),
    ]
    if rows_too:
        tasks.insert(0, deleting(f"messages of {tenant_id}", SQL["messages"], tenant_id, first_id(before)))
    return tasks
