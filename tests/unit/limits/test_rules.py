"""Which rule holds for whom, and with which limit."""

from dataclasses import replace

import pytest

from services.kernel.errors import ParleyError
from services.limits.domain.algorithms.base import Wanted
from services.limits.domain.algorithms.calendar_quota import CalendarQuota
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.asks import Ask, Request, ask_of, hold_of, usage_asks
from services.limits.domain.periods import Calendar
from services.limits.domain.reservations import Hold
from services.limits.domain.rules import FailureMode, Override, Rule, Rules, Scope, Selector, Subject

NOW = 1_760_000_000_000
PERSON = Subject(bot_id="water", channel_id="tg", contact_id="anna")
OVERRIDES = {
    Selector(Scope.BOT, "water"): Override(1),
    Selector(Scope.CHANNEL, "tg"): Override(2),
    Selector(Scope.CONTACT, "anna"): Override(3),
}


def quota(tenant: str = "*", rule_id: str = "daily", resource: str = "turn", limit: int = 30, **more: object) -> Rule:
    values = {"scope": Scope.CONTACT, "failure_mode": FailureMode.POSTGRES} | more
    return Rule(tenant, rule_id, resource, algorithm=CalendarQuota(limit, "UTC"), **values)  # type: ignore[arg-type]


def window(limit: int = 300, length: int = 60_000, **more: object) -> Rule:
    values = {"scope": Scope.CHANNEL, "failure_mode": FailureMode.OPEN} | more
    return Rule("*", "rate", "send", algorithm=SlidingWindow(limit, length), **values)  # type: ignore[arg-type]


def held(rule: Rule, subject: Subject, ttl: int = 1000) -> Hold:
    return hold_of(rule, subject, Wanted(NOW, ttl, 0, 1, {}, Calendar()))


def ask(rules: Rules, subject: Subject, *, tenant: str = "t", resource: str = "turn", units: int = 1) -> Ask | None:
    return ask_of(rules, Calendar(), NOW, Request(tenant, resource, subject, units, request_id="r"))


def test_a_tenants_own_rule_stands_in_the_place_of_the_general_one() -> None:
    rules = Rules([quota(limit=30), quota("acme", limit=5), quota("acme", "second", limit=7)])
    assert [rule.algorithm.limit for rule in rules.matching("acme", "turn")] == [5, 7]
    assert [rule.algorithm.limit for rule in rules.matching("other", "turn")] == [30]


def test_an_own_rule_for_another_resource_takes_the_general_one_away() -> None:
    rules = Rules([quota(), quota("acme", resource="nothing")])
    assert rules.matching("acme", "turn") == ()


def test_a_tenants_overrides_stay_its_own() -> None:
    rules = Rules([quota()], {("acme", "daily"): OVERRIDES})
    [own], [others] = rules.matching("acme", "turn"), rules.matching("other", "turn")
    assert own.override_for(PERSON) == Override(3)
    assert others.override_for(PERSON) is None


@pytest.mark.parametrize(
    ("subject", "limit"),
    [
        (PERSON, 3),
        (PERSON._replace(contact_id="boris"), 2),
        (Subject(bot_id="water", channel_id="wa"), 1),
        (Subject(bot_id="salon", channel_id="wa", contact_id="boris"), 30),
        (Subject(), 30),
    ],
)
def test_a_contacts_override_goes_before_a_channels_before_a_bots(subject: Subject, limit: int) -> None:
    rule = quota(overrides=OVERRIDES)
    assert held(replace(rule, scope=Scope.TENANT), subject).limit == limit


def test_an_override_may_change_a_windows_length() -> None:
    rule = window(overrides={Selector(Scope.CHANNEL, "tg"): Override(1, 5_000)})
    assert held(rule, PERSON).length == 5_000
    assert held(rule, Subject(channel_id="wa")).length == 60_000


def test_a_hold_on_a_window_has_its_own_expiry_only_when_that_comes_first() -> None:
    assert held(window(), PERSON, 59_999).own_expiry
    assert not held(window(), PERSON, 60_000).own_expiry


@pytest.mark.parametrize(
    ("scope", "field"),
    [(Scope.BOT, "subject.bot_id"), (Scope.CHANNEL, "subject.channel_id"), (Scope.CONTACT, "subject.contact_id")],
)
def test_a_subject_without_what_a_rule_counts_by_is_refused(scope: Scope, field: str) -> None:
    rules = Rules([quota(scope=scope)])
    with pytest.raises(ParleyError) as caught:
        ask(rules, Subject())
    assert (caught.value.reason, caught.value.fields[0].field) == ("INVALID_FIELD", field)


def test_without_a_rule_nothing_is_asked() -> None:
    assert ask(Rules([quota()]), PERSON, resource="x") is None


def test_the_same_request_makes_the_same_key_and_another_body_another_digest() -> None:
    def made(units: int, tenant: str = "t") -> tuple[str, bytes]:
        asked = ask(Rules([quota()]), PERSON, tenant=tenant, units=units)
        assert asked is not None
        return asked.key, asked.digest

    assert made(1) == made(1)
    assert (made(1)[0] == made(2)[0], made(1)[1] == made(2)[1]) == (True, False)
    assert made(1)[0] != made(1, "other")[0]


def test_usage_leaves_out_rules_that_do_not_count_the_subject() -> None:
    rules = Rules([quota(), window(), quota(rule_id="bot", scope=Scope.BOT)])
    asks = usage_asks(rules, Calendar(), NOW, tenant_id="t", resource="", subject=Subject(contact_id="anna"))
    assert [[hold.rule_id for hold in each.holds] for each in asks] == [["daily"]]
    asks = usage_asks(rules, Calendar(), NOW, tenant_id="t", resource="", subject=PERSON)
    assert [[hold.rule_id for hold in each.holds] for each in asks] == [["rate"], ["bot", "daily"]]
    assert usage_asks(rules, Calendar(), NOW, tenant_id="t", resource="unknown", subject=PERSON) == []
