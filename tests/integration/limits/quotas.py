"""Daily quotas as tests have them, and a person who spends one."""

from services.limits.domain.algorithms.calendar_quota import CalendarQuota
from services.limits.domain.rules import FailureMode, Override, Rule, Rules, Scope, Selector
from tests.integration.limits.stores import Stores


def quota(
    rule_id: str,
    resource: str,
    limit: int,
    mode: FailureMode = FailureMode.POSTGRES,
    *,
    zone: str = "UTC",
    scope: Scope = Scope.CONTACT,
    shadow: bool = False,
) -> Rule:
    return Rule("*", rule_id, resource, scope, CalendarQuota(limit, zone), mode, shadow)


RULES = Rules(
    [
        quota("day", "turn", 3),
        quota("bishkek", "local", 1, zone="Asia/Bishkek"),
        quota("open", "open", 1, FailureMode.OPEN),
        quota("closed", "closed", 1, FailureMode.CLOSED),
        quota("a-contact", "both", 2),
        quota("b-tenant", "both", 3, scope=Scope.TENANT),
        quota("watch", "watched", 1, shadow=True),
    ],
    {("acme", "day"): {Selector(Scope.CONTACT, "vip"): Override(5)}},
)


async def spend(
    made: Stores, count: int, *, contact: str = "anna", resource: str = "turn", label: str = "first"
) -> None:
    for number in range(count):
        answer = await made.reserve(f"{label}-{contact}-{number}", contact=contact, resource=resource)
        await made.commit(answer.reservation_id)
