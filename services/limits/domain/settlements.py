"""What a Commit charges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.limits.domain.asks import Count
from services.limits.domain.reservations import Hold, Reservation


@dataclass(frozen=True, slots=True)
class Settlement:
    """A reservation with what was really used: in units (None: as reserved), and in the units of budgets."""

    reservation: Reservation
    units: int | None
    amounts: Mapping[str, int]

    def used(self, hold: Hold) -> int:
        """Returns what is charged under a rule; what the caller does not name was used as reserved."""
        if hold.unit:
            return self.amounts.get(hold.unit, hold.units)
        return hold.units if self.units is None else self.units


class Charged(NamedTuple):
    """Whether a reservation was charged now, and the counts of its rules after that."""

    fresh: bool
    counts: Mapping[str, Count]


class Settled(NamedTuple):
    """Whether Redis knew of an earlier commit, and what is used under each rule; -1 where only Redis counts."""

    replayed: bool
    uses: tuple[int, ...]
