"""What dialog removes when it is old enough."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from services.dialog.postgres.database import Database
from services.dialog.postgres.partitions import (
    JOURNAL,
    MESSAGES,
    PARTITIONS,
    REPLIES,
    TURNS,
)
from services.runtime.partitions import first_id
from services.runtime.queries import load_queries, tenants_in
from services.runtime.retention import Task, days_ago, deleting, dropping, longest, walking

SQL = load_queries(
    Path(__file__).with_name("retention.sql"),
    **tenants_in("dialog.messages", "dialog.conversations", "dialog.dialog_outcomes", "dialog.orders"),
)
SILENT = timedelta(days=7)
"""A lane that has nothing left is kept for so long still."""


class Days(NamedTuple):
    """For how many days data is kept; 0 for ever."""

    messages: int
    journal: int
    orders: int = 0


async def plan(database: Database, defaults: Days, now: datetime) -> Sequence[Task]:
    """The tasks of now: stretches that are too old for every tenant go whole; of tenants who keep less than the others,
    rows go in small batches. Of whom nothing is known as a tenant, what the settings say is kept."""
    rows = await database.fetch(SQL["tenants"])
    kept = {row["tenant_id"]: _days(row, defaults) for row in rows}
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
        if days.orders:
            before = first_id(days_ago(now, days.orders))
            tasks.append(deleting(f"orders of {tenant_id}", SQL["orders"], tenant_id, before))
    tasks += _journal({tenant_id: days.journal for tenant_id, days in kept.items()}, defaults.journal, now)
    if defaults.messages:
        tasks.append(deleting("ended API keys", SQL["api_keys"], days_ago(now, defaults.messages)))
    tasks.append(walking("silent lanes", SQL["lanes"], now - SILENT))
    return tasks


def _days(row: Record, defaults: Days) -> Days:
    said = (row[f"{name}_days"] for name in Days._fields)
    return Days(*(default if days is None else days for days, default in zip(said, defaults, strict=True)))


def _of_tenant(tenant_id: str, before: datetime, *, rows_too: bool) -> list[Task]:
    tasks = [
        deleting(f"outcomes of {tenant_id}", SQL["outcomes"], tenant_id, before),
        deleting(f"conversations of {tenant_id}", SQL["conversations"], tenant_id, before),
    ]
    if rows_too:
        tasks.insert(0, deleting(f"messages of {tenant_id}", SQL["messages"], tenant_id, first_id(before)))
    return tasks


def _journal(kept: Mapping[str, int], default: int, now: datetime) -> list[Task]:
    """One walk over what is older than somebody keeps it, unless all keep the same."""
    if set(kept.values()) <= {default}:
        return []
    before = {days: first_id(days_ago(now, days)) if days else UUID(int=0) for days in {*kept.values(), default}}
    ends = (list(kept), [before[days] for days in kept.values()], before[default], max(before.values()))
    return [walking("journal", SQL["journal"], *ends)]
