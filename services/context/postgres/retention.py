"""What context removes when it is old enough."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.context.postgres.store import SQL
from services.runtime.retention import Task, days_ago, walking

SHORTEST = timedelta(days=7)
"""How long a version outlives what it was of at least: a cache that has seen a higher one must have forgotten it."""


def plan(now: datetime, days: int, cached: timedelta) -> Sequence[Task]:
    """The tasks of now: what is remembered is emptied when its time is over, and the rest goes as long after that as
    messages are kept. `days`: 0 for ever. `cached`: how long the caches keep a document at most."""
    before = datetime(1970, 1, 1, tzinfo=UTC)
    if days:
        before = min(days_ago(now, days), now - SHORTEST, now - cached - timedelta(days=1))
    return [
        walking("expired conversations", SQL["forget_conversations"], before),
        walking("expired contacts", SQL["forget_contacts"], before),
        walking("unused identities", SQL["forget_identities"], before),
    ]
