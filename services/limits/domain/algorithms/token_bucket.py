"""Token buckets: bursts up to the bucket's size, and an even rate in the long run."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from services.limits.domain.algorithms.base import Algorithm, Wanted
from services.limits.domain.reservations import Hold


@dataclass(frozen=True, slots=True)
class TokenBucket(Algorithm):
    """`limit` units are refilled in each `period` of milliseconds, and `burst` are kept; 0 means `limit`."""

    period: int
    burst: int = 0

    kind: ClassVar[str] = "token_bucket"
    length: ClassVar[str] = "period"
    is_rate: ClassVar[bool] = True

    def overridden(self, limit: int, length: int | None) -> Self:
        return replace(self, limit=limit, period=length or self.period, burst=0)

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        size = (self.burst or self.limit) if self.limit else 0
        fills_in = -(-self.period * size // self.limit) if self.limit else self.period
        return Hold(
            rule_id,
            value,
            size,
            shadow,
            "",
            0,
            fills_in,
            lasts=wanted.lasts,
            counter="t",
            units=wanted.units,
            parameters=(self.limit, self.period),
        )
