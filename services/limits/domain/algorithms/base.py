"""What every algorithm of a rule has in common."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

from services.limits.domain.periods import Calendar
from services.limits.domain.reservations import Hold


class Wanted(NamedTuple):
    """What a caller wants to reserve; times and durations in milliseconds. `units` 0 asks what was used."""

    now: int
    ttl: int
    lasts: int
    units: int
    amounts: Mapping[str, int]
    calendar: Calendar


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to count, with its parameters: the fields of its message in the contract, durations in milliseconds.

    The part of the Redis scripts that counts stands beside each algorithm, in `<module>.lua`.
    """

    limit: int

    kind: ClassVar[str]
    """The name of its field in the contract's `Rule.algorithm`."""
    most: ClassVar[int] = 10**9
    """The largest limit."""
    length: ClassVar[str] = ""
    """The field that an override may change beside the limit; empty for none."""
    is_rate: ClassVar[bool] = False
    """Whether what it counts comes back as time passes, so that nobody needs to commit or release it."""
    in_postgres: ClassVar[bool] = False
    """Whether Postgres keeps its counts, so that it can decide while Redis is away."""

    def overridden(self, limit: int, length: int | None) -> Self:
        """Returns the algorithm as an override changes it."""
        changes = {"limit": limit, self.length: length} if self.length and length is not None else {"limit": limit}
        return replace(self, **changes)

    def in_zone(self, time_zone: str) -> Self:
        """Returns the algorithm for a tenant of this time zone."""
        return self

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        """Returns what a reservation holds under a rule of this algorithm."""
        raise NotImplementedError
