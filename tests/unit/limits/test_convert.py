"""Rules survive the way to the contract and back, and what does not fit is refused by its field."""

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import ParleyError
from services.limits.convert import rules as convert
from services.limits.domain.algorithms.calendar_quota import CalendarQuota
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.rules import Override, Scope, Selector

QUOTA = pb.Rule(
    tenant_id="acme",
    rule_id="daily",
    resource="model.turn",
    scope=pb.RULE_SCOPE_CONTACT,
    daily_quota=pb.DailyQuota(limit=30, time_zone="Asia/Bishkek"),
    failure_mode=pb.FAILURE_MODE_POSTGRES,
)
WINDOW = pb.Rule(
    tenant_id="acme",
    rule_id="rate",
    resource="send",
    scope=pb.RULE_SCOPE_CHANNEL,
    sliding_window=pb.SlidingWindow(limit=5, window=Duration(seconds=1, nanos=500_000_000)),
    failure_mode=pb.FAILURE_MODE_CLOSED,
    shadow=True,
)


def changed(base: pb.Rule, message: pb.Rule, *paths: str) -> pb.Rule:
    return convert.rule_to(convert.changed(convert.rule_from(base), message, paths))


@pytest.mark.parametrize("rule", [QUOTA, WINDOW])
def test_a_rule_comes_back_as_it_went(rule: pb.Rule) -> None:
    assert convert.rule_to(convert.rule_from(rule)) == rule


@pytest.mark.parametrize("field", ["bot_id", "channel_id", "contact_id"])
def test_an_override_comes_back_as_it_went(field: str) -> None:
    message = pb.Override(selector=pb.Selector(**{field: "x"}), limit=3, window=Duration(seconds=2))
    rule = convert.rule_from(WINDOW)
    selector, override = convert.selector_from(message.selector), convert.override_from(message, rule)
    assert convert.override_to(selector, override) == message


def refused(base: pb.Rule, message: pb.Rule, *paths: str) -> tuple[str, str]:
    with pytest.raises(ParleyError) as caught:
        changed(base, message, *paths)
    return caught.value.reason, caught.value.fields[0].field


def test_only_what_the_mask_names_is_changed() -> None:
    new = pb.Rule(resource="other", daily_quota=pb.DailyQuota(limit=7, time_zone="UTC"), shadow=True)
    assert changed(QUOTA, new, "resource").resource == "other"
    assert changed(QUOTA, new, "shadow").shadow
    assert changed(QUOTA, new, "daily_quota").daily_quota == new.daily_quota
    limit_only = changed(QUOTA, new, "daily_quota.limit")
    assert (limit_only.daily_quota.limit, limit_only.daily_quota.time_zone) == (7, "Asia/Bishkek")
    assert limit_only.resource == QUOTA.resource


def test_what_calls_of_a_provider_are_counted_by() -> None:
    """Delivery holds a slot for an hour and commits none."""
    rate = pb.Rule()
    rate.CopyFrom(WINDOW)
    rate.resource = "provider.chat2desk"
    rate.sliding_window.window.FromSeconds(3600)
    assert changed(rate, rate, "sliding_window") == rate
    longer = pb.Rule(sliding_window=pb.SlidingWindow(limit=5, window=Duration(seconds=3601)))
    assert refused(rate, longer, "sliding_window") == ("INVALID_FIELD", "rule.sliding_window.window")
    assert refused(QUOTA, rate, "resource") == ("INVALID_FIELD", "rule.daily_quota")
    override = pb.Override(selector=pb.Selector(channel_id="x"), limit=3, window=Duration(seconds=3601))
    with pytest.raises(ParleyError) as caught:
        convert.override_from(override, convert.rule_from(rate))
    assert caught.value.fields[0].field == "override.window"


def test_the_kind_of_a_rule_changes_as_a_whole() -> None:
    new = pb.Rule(sliding_window=WINDOW.sliding_window, failure_mode=pb.FAILURE_MODE_OPEN)
    assert changed(QUOTA, new, "failure_mode", "sliding_window").sliding_window == WINDOW.sliding_window
    assert refused(QUOTA, new, "sliding_window.limit") == ("INVALID_FIELD", "rule.sliding_window.limit")
    assert refused(QUOTA, new, "sliding_window") == ("INVALID_FIELD", "rule.failure_mode"), (
        "Postgres counts quotas only"
    )


@pytest.mark.parametrize("path", ["rule_id", "overrides", "daily_quota.zone", "daily_quota.limit.x", "scope.x", ""])
def test_a_mask_with_another_field_is_refused(path: str) -> None:
    assert refused(QUOTA, QUOTA, path) == ("INVALID_UPDATE_MASK", "update_mask")


def test_a_masked_algorithm_must_be_there() -> None:
    assert refused(QUOTA, pb.Rule(), "daily_quota") == ("INVALID_FIELD", "rule.daily_quota")


def test_an_unknown_time_zone_is_refused() -> None:
    new = pb.Rule(daily_quota=pb.DailyQuota(limit=7, time_zone="Mars/Olympus"))
    assert refused(QUOTA, new, "daily_quota") == ("INVALID_FIELD", "rule.daily_quota.time_zone")


def test_postgres_does_not_count_windows() -> None:
    new = pb.Rule(failure_mode=pb.FAILURE_MODE_POSTGRES)
    assert refused(WINDOW, new, "failure_mode") == ("INVALID_FIELD", "rule.failure_mode")


def test_a_quota_has_no_window_to_override() -> None:
    message = pb.Override(selector=pb.Selector(bot_id="x"), limit=3, window=Duration(seconds=2))
    with pytest.raises(ParleyError) as caught:
        convert.override_from(message, convert.rule_from(QUOTA))
    assert caught.value.fields[0].field == "override.window"


def test_domain_types_say_milliseconds() -> None:
    assert convert.rule_from(WINDOW).algorithm == SlidingWindow(5, 1500)
    assert convert.rule_from(QUOTA).algorithm == CalendarQuota(30, "Asia/Bishkek")
    assert convert.selector_from(pb.Selector(contact_id="c")) == Selector(Scope.CONTACT, "c")
    assert convert.override_from(pb.Override(limit=1), convert.rule_from(QUOTA)) == Override(1)


def test_a_budget_keeps_its_unit() -> None:
    """What was used in the running period would be counted in the other unit."""
    budget = pb.Rule(
        tenant_id="acme",
        rule_id="tokens",
        resource="model.turn",
        scope=pb.RULE_SCOPE_TENANT,
        budget=pb.Budget(limit=9, period=pb.CALENDAR_PERIOD_MONTH, unit="tokens"),
        failure_mode=pb.FAILURE_MODE_OPEN,
    )
    other = pb.Rule(budget=pb.Budget(limit=9, period=pb.CALENDAR_PERIOD_MONTH, unit="usd_micros"))
    assert refused(budget, other, "budget") == ("INVALID_FIELD", "rule.budget")
    assert refused(budget, QUOTA, "daily_quota") == ("INVALID_FIELD", "rule.daily_quota")
    more = pb.Rule(budget=pb.Budget(limit=10, period=pb.CALENDAR_PERIOD_MONTH))
    assert changed(budget, more, "budget.limit").budget.limit == 10


def test_delivery_does_not_name_whose_turn_a_call_of_a_provider_is() -> None:
    rate = pb.Rule()
    rate.CopyFrom(WINDOW)
    rate.resource, rate.scope = "provider.chat2desk", pb.RULE_SCOPE_CONVERSATION
    assert refused(WINDOW, rate, "resource", "scope") == ("INVALID_FIELD", "rule.scope")


def test_only_budgets_go_beyond_a_thousand_million() -> None:
    message = pb.Override(selector=pb.Selector(bot_id="x"), limit=10**9 + 1)
    with pytest.raises(ParleyError) as caught:
        convert.override_from(message, convert.rule_from(QUOTA))
    assert caught.value.fields[0].field == "override.limit"


def test_weeks_and_months_are_no_daily_quotas() -> None:
    week = pb.Rule(calendar_quota=pb.CalendarQuota(limit=7, time_zone="UTC", period=pb.CALENDAR_PERIOD_WEEK))
    assert changed(QUOTA, week, "calendar_quota").calendar_quota == week.calendar_quota
    day = pb.Rule(calendar_quota=pb.CalendarQuota(limit=7, time_zone="UTC", period=pb.CALENDAR_PERIOD_DAY))
    assert changed(QUOTA, day, "calendar_quota.limit").daily_quota.limit == 7
