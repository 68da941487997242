"""Calendar quotas and budgets: so much in a day, week or month of a time zone. Postgres keeps what was charged."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from services.limits.domain.algorithms.base import Algorithm, Wanted
from services.limits.domain.periods import Period
from services.limits.domain.reservations import Hold


@dataclass(frozen=True, slots=True)
class CalendarQuota(Algorithm):
    """Units in a calendar period of a time zone; of the tenant's zone when it is empty."""

    time_zone: str = ""
    period: Period = Period.DAY

    kind: ClassVar[str] = "calendar_quota"
    in_postgres: ClassVar[bool] = True

    def in_zone(self, time_zone: str) -> Self:
        return self if self.time_zone else replace(self, time_zone=time_zone)

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        return self._held(rule_id, value, shadow, wanted, wanted.units)

    def _held(self, rule_id: str, value: str, shadow: bool, wanted: Wanted, units: int, unit: str = "") -> Hold:
        span = wanted.calendar.at(self.time_zone, self.period, wanted.now)
        return Hold(
            rule_id,
            value,
            self.limit,
            shadow,
            span.date.isoformat(),
            span.ends,
            0,
            counter="q",
            units=units,
            unit=unit,
            parameters=(self.period,),
        )


@dataclass(frozen=True, slots=True)
class Budget(CalendarQuota):
    """An amount of `unit` in a calendar period. It is known when the work is done, so a Reserve holds an estimate."""

    unit: str = ""

    kind: ClassVar[str] = "budget"
    most: ClassVar[int] = 10**15

    def hold(self, rule_id: str, value: str, shadow: bool, wanted: Wanted) -> Hold:
        estimate = max(wanted.amounts.get(self.unit, 1), 1) if wanted.units else 0
        return self._held(rule_id, value, shadow, wanted, estimate, self.unit)
