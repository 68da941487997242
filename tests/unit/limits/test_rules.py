"""Which rule holds for whom, and with which limit."""

import pytest

from services.kernel.errors import ParleyError
from services.limits.days import Days
from services.limits.domain import (
    DailyQuota,
    FailureMode,
    Override,
    Rule,
    Rules,
    Scope,
    Selector,
    SlidingWindow,
    Subject,
)
from services.limits.lines import ask_of, line_of, usage_asks

NOW = 1_760_000_000_000
PERSON = Subject(bot_id="water", channel_id="tg", contact_id="anna")
OVERRIDES = {
    Selector(Scope.BOT, "water"): Override(1),
    Selector(Scope.CHANNEL, "tg"): Override(2),
    Selector(Scope.CONTACT, "anna"): Override(3),
}


def quota(tenant: str = "*", rule_id: str = "daily", resource: str = "turn", limit: int = 30, **more: object) -> Rule:
    values = {"scope": Scope.CONTACT, "failure_mode": FailureMode.POSTGRES} | more
    return Rule(tenant, rule_id, resource, algorithm=DailyQuota(limit, "UTC"), **values)  # type: ignore[arg-type]


def window(limit: int = 300, length: int = 60_000, **more: object) -> Rule:
    values = {"scope": Scope.CHANNEL, "failure_mode": FailureMode.OPEN} | more
    return Rule("*", "rate", "send", algorithm=SlidingWindow(limit, length), **values)  # type: ignore[arg-type]


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
    assert line_of(rule, subject, "x", Days(), NOW, 1000).limit == limit


def test_an_override_may_change_a_windows_length() -> None:
    rule = window(overrides={Selector(Scope.CHANNEL, "tg"): Override(1, 5_000)})
    assert line_of(rule, PERSON, "tg", Days(), NOW, 1000).window == 5_000
    assert line_of(rule, Subject(channel_id="wa"), "wa", Days(), NOW, 1000).window == 60_000


def test_a_hold_on_a_window_has_its_own_expiry_only_when_that_comes_first() -> None:
    assert line_of(window(), PERSON, "tg", Days(), NOW, 59_999).own_expiry
    assert not line_of(window(), PERSON, "tg", Days(), NOW, 60_000).own_expiry


@pytest.mark.parametrize(
    ("scope", "field"),
    [(Scope.BOT, "subject.bot_id"), (Scope.CHANNEL, "subject.channel_id"), (Scope.CONTACT, "subject.contact_id")],
)
def test_a_subject_without_what_a_rule_counts_by_is_refused(scope: Scope, field: str) -> None:
    rules = Rules([quota(scope=scope)])
    with pytest.raises(ParleyError) as caught:
        ask_of(rules, Days(), NOW, tenant_id="t", request_id="r", resource="turn", subject=Subject(), units=1)
    assert (caught.value.reason, caught.value.fields[0].field) == ("INVALID_FIELD", field)


def test_without_a_rule_nothing_is_asked() -> None:
    asked = ask_of(Rules([quota()]), Days(), NOW, tenant_id="t", request_id="r", resource="x", subject=PERSON, units=1)
    assert asked is None


def test_the_same_request_makes_the_same_key_and_another_body_another_digest() -> None:
    def ask(units: int, tenant: str = "t") -> tuple[str, bytes]:
        made = ask_of(
            Rules([quota()]),
            Days(),
            NOW,
            tenant_id=tenant,
            request_id="r",
            resource="turn",
            subject=PERSON,
            units=units,
        )
        assert made is not None
        return made.key, made.digest

    assert ask(1) == ask(1)
    assert (ask(1)[0] == ask(2)[0], ask(1)[1] == ask(2)[1]) == (True, False)
    assert ask(1)[0] != ask(1, "other")[0]


def test_usage_leaves_out_rules_that_do_not_count_the_subject() -> None:
    rules = Rules([quota(), window(), quota(rule_id="bot", scope=Scope.BOT)])
    asks = usage_asks(rules, Days(), NOW, tenant_id="t", resource="", subject=Subject(contact_id="anna"))
    assert [[line.rule_id for line in ask.lines] for ask in asks] == [["daily"]]
    asks = usage_asks(rules, Days(), NOW, tenant_id="t", resource="", subject=PERSON)
    assert [[line.rule_id for line in ask.lines] for ask in asks] == [["rate"], ["bot", "daily"]]
    assert usage_asks(rules, Days(), NOW, tenant_id="t", resource="unknown", subject=PERSON) == []
