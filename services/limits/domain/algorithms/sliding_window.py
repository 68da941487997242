"""Sliding windows: never more than the limit in any stretch of time of their length."""

from dataclasses import dataclass
from typing import ClassVar

from services.limits.domain.algorithms.base import Algorithm, Wanted
from services.limits.domain.reservations import Hold, window_counter


@dataclass(frozen=True, slots=True)
class SlidingWindow(Algorithm):
    """Units in any stretch of `window` milliseconds."""

    window: int

    kind: ClassVar[str] = "sliding_window"
    length: ClassVar[str] = "window"
    is_rate: ClassVar[bool] = True

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        return Hold(
            rule_id,
            value,
            self.limit,
            shadow,
            "",
            0,
            self.window,
            own_expiry=wanted.ttl < self.window and not wanted.lasts,
            lasts=wanted.lasts,
            counter=window_counter(self.limit, shadow),
            units=wanted.units,
        )
