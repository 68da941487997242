"""Concurrency limits: so much at the same time."""

from dataclasses import dataclass
from typing import ClassVar

from services.limits.domain.algorithms.base import Algorithm, Wanted
from services.limits.domain.reservations import Hold


@dataclass(frozen=True, slots=True)
class Concurrency(Algorithm):
    """Units that are held at the same time. A hold ends with its Commit or Release, or when the reservation expires."""

    kind: ClassVar[str] = "concurrency"

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        return Hold(rule_id, value, self.limit, shadow, "", 0, 0, counter="c", units=wanted.units)
