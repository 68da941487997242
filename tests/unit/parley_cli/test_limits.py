"""What `parley limits` sends and prints."""

from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import tenant_pb2
from parley.limits.v1 import limits_pb2

from tests.unit.parley_cli.conftest import Scripted, document, parley


def daily_rule(tenant: str) -> limits_pb2.Rule:
    return limits_pb2.Rule(
        tenant_id=tenant,
        rule_id="daily-quota",
        resource="model.turn",
        scope=limits_pb2.RULE_SCOPE_CONTACT,
        daily_quota=limits_pb2.DailyQuota(limit=30, time_zone="UTC"),
        failure_mode=limits_pb2.FAILURE_MODE_POSTGRES,
    )


def test_a_rule_of_every_tenant_is_copied_before_one_tenant_changes_it(stack: Scripted) -> None:
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*")]),
        "GetTenant": tenant_pb2.GetTenantResponse(tenant=tenant_pb2.Tenant(time_zone="Asia/Bishkek")),
        "CreateRule": limits_pb2.CreateRuleResponse(rule=daily_rule("demo")),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "86400")
    rule = stack.one("CreateRule").rule
    assert (rule.tenant_id, rule.daily_quota.limit, rule.daily_quota.time_zone) == ("demo", 5, "Asia/Bishkek")


def test_a_tenants_own_rule_is_updated(stack: Scripted) -> None:
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*"), daily_rule("demo")]),
        "UpdateRule": limits_pb2.UpdateRuleResponse(rule=daily_rule("demo")),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "60")
    request = stack.one("UpdateRule")
    assert list(request.update_mask.paths) == ["sliding_window"]
    assert request.rule.sliding_window.window.seconds == 60


def test_a_limit_for_one_channel_is_an_override(stack: Scripted) -> None:
    window = limits_pb2.Rule(tenant_id="*", rule_id="rate", sliding_window=limits_pb2.SlidingWindow(limit=300))
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[window]),
        "SetOverride": limits_pb2.SetOverrideResponse(rule=window),
    }
    document(*["limits", "set", "--rule", "rate", "--limit", "9", "--per", "60", "--channel", "shop"])
    override = stack.one("SetOverride").override
    assert (override.selector.channel_id, override.limit, override.window.seconds) == ("shop", 9, 60)
    document(*["limits", "set", "--rule", "rate", "--limit", "9", "--conversation", "c1"])
    assert stack.requests["SetOverride"][-1].override.selector.conversation_id == "c1"
    both = parley("limits", "set", "--rule", "rate", "--limit", "9", "--bot", "a", "--channel", "b")
    assert "exclude each other" in both.stderr
    assert "Rules are rate" in parley("limits", "set", "--rule", "lost", "--limit", "9").stderr


def test_a_changed_limit_keeps_its_algorithm(stack: Scripted) -> None:
    rate = limits_pb2.TokenBucket(limit=30, period=Duration(seconds=60), burst=5)
    budget = limits_pb2.Budget(limit=9, period=limits_pb2.CALENDAR_PERIOD_MONTH, unit="tokens")
    rules = [
        limits_pb2.Rule(tenant_id="demo", rule_id="rate", token_bucket=rate),
        limits_pb2.Rule(tenant_id="demo", rule_id="budget", budget=budget),
        limits_pb2.Rule(tenant_id="demo", rule_id="few", concurrency=limits_pb2.Concurrency(limit=2)),
    ]
    stack.answers["ListRules"] = limits_pb2.ListRulesResponse(rules=rules)
    stack.answers["UpdateRule"] = limits_pb2.UpdateRuleResponse(rule=rules[0])
    document("limits", "set", "--rule", "rate", "--limit", "20", "--per", "30s")
    changed = stack.one("UpdateRule")
    assert list(changed.update_mask.paths) == ["token_bucket"]
    bucket = changed.rule.token_bucket
    assert (bucket.limit, bucket.period.seconds, bucket.burst) == (20, 30, 5)
    assert "has no length" in parley("limits", "set", "--rule", "few", "--limit", "3", "--per", "60s").stderr
    assert "has no time zone" in parley("limits", "set", "--rule", "few", "--limit", "3", "--zone", "UTC").stderr
    shown = parley("limits", "show").stdout
    assert "tokens a month in the tenant's zone" in " ".join(shown.split())
    assert "concurrency" in " ".join(shown.split())


def test_limits_show_prefers_the_tenants_own_rule(stack: Scripted) -> None:
    stack.answers["ListRules"] = limits_pb2.ListRulesResponse(rules=[daily_rule("*"), daily_rule("demo")])
    (shown,) = document("limits", "show")
    assert (shown["tenant_id"], shown["limit"], shown["per"]) == ("demo", 30, 86400)


def test_a_changed_limit_keeps_its_zone(stack: Scripted) -> None:
    own = daily_rule("demo")
    own.daily_quota.time_zone = "Asia/Bishkek"
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[own]),
        "UpdateRule": limits_pb2.UpdateRuleResponse(rule=own),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "24h")
    changed = stack.one("UpdateRule").rule.daily_quota
    assert (changed.limit, changed.time_zone) == (5, "Asia/Bishkek")
    wrong = parley("limits", "set", "--rule", "daily-quota", "--limit", "5", "--zone", "UTC", "--per", "1m")
    assert "counts days" in wrong.stderr


def test_limits_are_taken_back_and_begun_anew(stack: Scripted) -> None:
    own, common = daily_rule("demo"), daily_rule("*")
    stack.answers |= {
        "ListRules": [
            limits_pb2.ListRulesResponse(rules=[common, own]),
            limits_pb2.ListRulesResponse(rules=[common]),
        ],
        "DeleteRule": limits_pb2.DeleteRuleResponse(),
        "DeleteOverride": limits_pb2.DeleteOverrideResponse(rule=own),
        "ResetUsage": limits_pb2.ResetUsageResponse(),
    }
    assert document("limits", "unset", "--rule", "daily-quota")["tenant_id"] == "*"
    assert stack.one("DeleteRule").tenant_id == "demo"
    assert "for every tenant" in parley("limits", "unset", "--rule", "daily-quota").stderr
    document("limits", "unset", "--rule", "daily-quota", "--contact", "c1")
    assert stack.one("DeleteOverride").selector.contact_id == "c1"
    document("limits", "reset", "--rule", "daily-quota", "--contact", "c1")
    assert stack.one("ResetUsage").subject.contact_id == "c1"
    assert "--contact" in parley("limits", "reset", "--rule", "daily-quota").stderr


def test_a_new_rule_for_one_bot_binds_that_bot_only(stack: Scripted) -> None:
    burst = limits_pb2.Rule(rule_id="burst", sliding_window=limits_pb2.SlidingWindow(limit=9))
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*")]),
        "CreateRule": limits_pb2.CreateRuleResponse(rule=burst),
        "SetOverride": limits_pb2.SetOverrideResponse(rule=burst),
    }
    command = "limits set --rule burst --limit 2 --per 10 --bot water"
    assert "--resource" in parley(*command.split()).stderr
    shown = document(*command.split(), "--resource", "model.turn")
    made, override = stack.one("CreateRule").rule, stack.one("SetOverride").override
    assert (made.resource, made.scope) == ("model.turn", limits_pb2.RULE_SCOPE_BOT)
    assert made.sliding_window.limit > 1_000_000
    assert (override.selector.bot_id, override.limit, override.window.seconds) == ("water", 2, 10)
    assert (shown["limit"], shown["per"]) == (2, 10)
