"""The words in which a service says what ends the rows of its tables. docs/reference/kept.md is made from them, and a
test finds tables that are left out."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Kept:
    """What a row of a table is, and what ends it.

    `time` is how long it is kept, if that is fixed; `setting` names the field of `Settings` with the days, and `tenant`
    the field of a tenant's `Retention`. A row with none of the three is ended by an event.
    """

    row: str
    ends: str
    time: timedelta | None = None
    setting: str = ""
    tenant: str = ""


UPKEEP = Kept("how far a task of upkeep has come", "it stays: there is one for each task, and for each tenant of some")
MIGRATIONS = Kept("a migration that was applied", "it stays: there is one for each file")
LANE = Kept("a conversation's queue", "it is empty, has been silent for so long and nothing of it is kept any more")
