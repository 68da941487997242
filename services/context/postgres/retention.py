"""Removes what is older than it is to be kept."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.context.postgres.store import SQL
from services.runtime.retention import Task, days_ago, walking

SHORTEST = timedelta(days=7)
"""The shortest time for which a version outlives its document, so that no cache still holds a higher one."""


def plan(now: datetime, days: int, cached: timedelta) -> Sequence[Task]:
    """Returns the tasks of now. They empty documents that have expired, and remove their rows after as many days as
    messages are kept (0: never). `cached` is the longest time for which caches keep a document.
    """
    before = datetime(1970, 1, 1, tzinfo=UTC)
    if days:
        before = min(days_ago(now, days), now - SHORTEST, now - cached - timedelta(days=1))
    return [
        walking("expired conversations", SQL["forget_conversations"], before),
        walking("expired contacts", SQL["forget_contacts"], before),
        walking("unused identities", SQL["forget_identities"], before),
    ]
