"""The service over gRPC: rules changed at run time, many callers at once, several processes, Redis that dies."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from parley.limits.v1 import limits_pb2 as pb

from deploy.local.embedded import EmbeddedRedis
from parley_client.errors import (
    AlreadyExists,
    CallError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from parley_client.limits import LimitsClient
from parley_client.tokens import TokenSource
from tests.integration.limits.conftest import serving

TENANT = "acme"


def person() -> pb.Subject:
    return pb.Subject(contact_id=str(uuid4()))


def asked(subject: pb.Subject, resource: str = "model.turn", request_id: str = "", **more: Any) -> pb.ReserveRequest:
    return pb.ReserveRequest(
        tenant_id=TENANT, request_id=request_id or uuid4().hex, resource=resource, subject=subject, **more
    )


def quota(rule_id: str, limit: int, **more: Any) -> pb.Rule:
    values: dict[str, Any] = {
        "tenant_id": TENANT,
        "resource": "model.turn",
        "scope": pb.RULE_SCOPE_CONTACT,
        "daily_quota": pb.DailyQuota(limit=limit, time_zone="UTC"),
        "failure_mode": pb.FAILURE_MODE_POSTGRES,
    }
    return pb.Rule(rule_id=rule_id, **(values | more))


def creating(rule: pb.Rule, request_id: str = "") -> pb.CreateRuleRequest:
    return pb.CreateRuleRequest(tenant_id=TENANT, rule=rule, request_id=request_id or uuid4().hex)


async def test_everyone_has_thirty_turns_a_day(limits: LimitsClient) -> None:
    subject = person()
    answers = await asyncio.gather(*(limits.reserve(asked(subject)) for _ in range(100)))
    granted = [answer for answer in answers if answer.granted]
    assert len(granted) == 30
    assert {answer.refused_by for answer in answers if not answer.granted} == {"daily-quota"}
    await asyncio.gather(
        *(
            limits.commit(pb.CommitRequest(tenant_id=TENANT, reservation_id=answer.reservation_id))
            for answer in granted
            for _ in range(2)
        )
    )
    usage = await limits.get_usage(pb.GetUsageRequest(tenant_id=TENANT, subject=subject))
    assert [(status.rule_id, status.used) for status in usage.statuses] == [("daily-quota", 30)]
    checked = await limits.check(pb.CheckRequest(tenant_id=TENANT, resource="model.turn", subject=subject))
    assert (checked.allowed, checked.refused_by) == (False, "daily-quota")


async def test_what_is_released_costs_nothing(limits: LimitsClient) -> None:
    subject = person()
    for _ in range(40):
        answer = await limits.reserve(asked(subject))
        await limits.release(pb.ReleaseRequest(tenant_id=TENANT, reservation_id=answer.reservation_id))
    assert answer.granted
    checked = await limits.check(pb.CheckRequest(tenant_id=TENANT, resource="model.turn", subject=subject, units=30))
    assert checked.allowed


async def test_a_channel_sends_three_hundred_a_minute(limits: LimitsClient) -> None:
    channel = pb.Subject(channel_id="demo")
    answers = await asyncio.gather(*(limits.reserve(asked(channel, "provider.chat2desk")) for _ in range(301)))
    assert sum(answer.granted for answer in answers) == 300
    later = await limits.reserve(asked(channel, "provider.chat2desk", max_wait=Duration(seconds=120)))
    assert later.granted
    assert 0 < later.wait.seconds <= 60


async def test_what_no_rule_counts_is_granted_without_a_reservation(limits: LimitsClient) -> None:
    answer = await limits.reserve(asked(person(), "nothing"))
    assert (answer.granted, answer.reservation_id, list(answer.statuses)) == (True, "", [])


async def test_rules_are_created_changed_listed_and_deleted(limits: LimitsClient) -> None:
    created = await limits.create_rule(creating(quota("daily-quota", 2), "create"))
    assert (await limits.create_rule(creating(quota("daily-quota", 2), "create"))) == created, "a replay"
    subject = person()
    assert [(await limits.reserve(asked(subject))).granted for _ in range(3)] == [True, True, False]
    updated = await limits.update_rule(
        pb.UpdateRuleRequest(
            tenant_id=TENANT,
            rule=quota("daily-quota", 3),
            update_mask=FieldMask(paths=["daily_quota.limit"]),
            request_id="update",
        )
    )
    assert updated.rule.daily_quota.limit == 3
    assert [(await limits.reserve(asked(subject))).granted for _ in range(2)] == [True, False]
    listed = await limits.list_rules(pb.ListRulesRequest(tenant_id=TENANT, page_size=1))
    second = await limits.list_rules(
        pb.ListRulesRequest(tenant_id=TENANT, page_size=1, page_token=listed.next_page_token)
    )
    assert [(rule.tenant_id, rule.rule_id) for rule in (*listed.rules, *second.rules)] == [
        ("*", "chat2desk-rate"),
        (TENANT, "daily-quota"),
    ]
    assert second.next_page_token == ""
    await limits.delete_rule(pb.DeleteRuleRequest(tenant_id=TENANT, rule_id="daily-quota", request_id="delete"))
    assert (await limits.reserve(asked(subject))).statuses[0].limit == 30


async def test_lim_3_a_rule_may_count_in_many_ways(limits: LimitsClient) -> None:
    month = pb.CALENDAR_PERIOD_MONTH
    algorithms: dict[str, Any] = {
        "calendar_quota": pb.CalendarQuota(limit=5, time_zone="UTC", period=month),
        "sliding_window": pb.SlidingWindow(limit=5, window=Duration(seconds=60)),
        "token_bucket": pb.TokenBucket(limit=5, period=Duration(seconds=60), burst=2),
        "concurrency": pb.Concurrency(limit=5),
        "budget": pb.Budget(limit=5, time_zone="UTC", period=month, unit="tokens"),
    }
    subject = pb.Subject(conversation_id="conversation")
    for kind, algorithm in algorithms.items():
        rule = pb.Rule(
            tenant_id=TENANT,
            rule_id=kind.replace("_", "-"),
            resource="work",
            scope=pb.RULE_SCOPE_CONVERSATION,
            failure_mode=pb.FAILURE_MODE_CLOSED,
            **{kind: algorithm},
        )
        made = (await limits.create_rule(creating(rule))).rule
        made.ClearField("updated_at")
        assert made == rule
    override = pb.Override(selector=pb.Selector(conversation_id="vip"), limit=9, window=Duration(seconds=9))
    request = pb.SetOverrideRequest(tenant_id=TENANT, rule_id="token-bucket", override=override, request_id="set")
    assert list((await limits.set_override(request)).rule.overrides) == [override]
    held = await limits.reserve(asked(subject, "work", amounts=[pb.Amount(unit="tokens", value=3)]))
    used = {each.rule_id: (each.limit, each.used) for each in held.statuses}
    assert used == {
        "calendar-quota": (5, 1),
        "sliding-window": (5, 1),
        "token-bucket": (2, 1),
        "concurrency": (5, 1),
        "budget": (5, 3),
    }
    commit = pb.CommitRequest(tenant_id=TENANT, reservation_id=held.reservation_id, units=2, amounts=[])
    commit.amounts.add(unit="tokens", value=4)
    assert [(each.rule_id, each.used) for each in (await limits.commit(commit)).statuses] == [
        ("budget", 4),
        ("calendar-quota", 2),
    ]
    usage = await limits.get_usage(pb.GetUsageRequest(tenant_id=TENANT, subject=subject))
    assert [each.used for each in usage.statuses] == [4, 2, 0, 2, 2]
    vip = pb.CheckRequest(tenant_id=TENANT, resource="work", subject=pb.Subject(conversation_id="vip"), units=6)
    assert (await limits.check(vip)).refused_by != "token-bucket"
    [daily] = [pb.CalendarQuota(limit=1, time_zone="UTC", period=pb.CALENDAR_PERIOD_DAY)]
    rule = quota("daily", 1, resource="other", calendar_quota=daily)
    assert (await limits.create_rule(creating(rule))).rule.daily_quota == pb.DailyQuota(limit=1, time_zone="UTC")
    twice = asked(subject, "work", amounts=[pb.Amount(unit="tokens", value=1)] * 2)
    assert await failure(limits.reserve(twice)) == (InvalidArgument, "INVALID_FIELD", ["amounts"])


async def test_an_override_of_a_general_rule_is_the_tenants_own(limits: LimitsClient) -> None:
    subject = person()
    override = pb.Override(selector=pb.Selector(contact_id=subject.contact_id), limit=1)
    request = pb.SetOverrideRequest(tenant_id=TENANT, rule_id="daily-quota", override=override, request_id="set")
    assert list((await limits.set_override(request)).rule.overrides) == [override]
    assert [(await limits.reserve(asked(subject))).granted for _ in range(2)] == [True, False]
    listed = await limits.list_rules(pb.ListRulesRequest(tenant_id="other"))
    assert all(not rule.overrides for rule in listed.rules)
    taken = await limits.delete_override(
        pb.DeleteOverrideRequest(tenant_id=TENANT, rule_id="daily-quota", selector=override.selector, request_id="take")
    )
    assert not taken.rule.overrides
    assert (await limits.reserve(asked(subject))).granted


async def failure(call: Any) -> tuple[type[CallError], str, list[str]]:
    with pytest.raises(CallError) as caught:
        await call
    return type(caught.value), caught.value.reason, [field for field, _ in caught.value.fields]


async def test_what_is_wrong_is_refused_by_its_name(limits: LimitsClient) -> None:
    window = pb.SlidingWindow(limit=1, window=Duration(seconds=1))
    bad_zone = quota("x", 1, daily_quota=pb.DailyQuota(limit=1, time_zone="Mars/Olympus"))
    by_postgres = pb.Rule(
        tenant_id=TENANT,
        rule_id="x",
        resource="x",
        scope=pb.RULE_SCOPE_TENANT,
        sliding_window=window,
        failure_mode=pb.FAILURE_MODE_POSTGRES,
    )
    commit = pb.CommitRequest(tenant_id=TENANT, reservation_id="forged")
    delete = pb.DeleteRuleRequest(tenant_id=TENANT, rule_id="none", request_id="d")
    reset = pb.ResetUsageRequest(tenant_id=TENANT, rule_id="none", subject=person(), request_id="r")
    token = pb.ListRulesRequest(tenant_id=TENANT, page_token="x")
    foreign = creating(quota("x", 1, tenant_id="other"))
    assert await failure(limits.create_rule(creating(bad_zone))) == (
        InvalidArgument,
        "INVALID_FIELD",
        ["rule.daily_quota.time_zone"],
    )
    assert await failure(limits.create_rule(creating(by_postgres))) == (
        InvalidArgument,
        "INVALID_FIELD",
        ["rule.failure_mode"],
    )
    assert await failure(limits.create_rule(foreign)) == (InvalidArgument, "INVALID_FIELD", ["rule.tenant_id"])
    assert await failure(limits.commit(commit)) == (InvalidArgument, "INVALID_FIELD", ["reservation_id"])
    assert await failure(limits.reserve(asked(pb.Subject()))) == (
        InvalidArgument,
        "INVALID_FIELD",
        ["subject.contact_id"],
    )
    assert await failure(limits.delete_rule(delete)) == (NotFound, "RULE_NOT_FOUND", [])
    assert await failure(limits.reset_usage(reset)) == (NotFound, "RULE_NOT_FOUND", [])
    assert await failure(limits.list_rules(token)) == (InvalidArgument, "INVALID_PAGE_TOKEN", ["page_token"])
    await limits.create_rule(creating(quota("mine", 1)))
    assert await failure(limits.create_rule(creating(quota("mine", 1)))) == (AlreadyExists, "ALREADY_EXISTS", [])


async def test_a_resource_has_eight_rules_at_most(limits: LimitsClient) -> None:
    for number in range(7):
        await limits.create_rule(creating(quota(f"r{number}", 10)))
    assert (await failure(limits.create_rule(creating(quota("r7", 10)))))[:2] == (FailedPrecondition, "IN_USE")
    answer = await limits.reserve(asked(person()))
    assert len(answer.statuses) == 8
    await limits.commit(pb.CommitRequest(tenant_id=TENANT, reservation_id=answer.reservation_id))


async def test_a_rule_for_every_tenant_needs_a_token_for_every_tenant(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]
) -> None:
    everyone = quota("daily-quota", 5, tenant_id="*")
    request = pb.UpdateRuleRequest(
        tenant_id="*", rule=everyone, update_mask=FieldMask(paths=["daily_quota"]), request_id="u"
    )
    async with serving(make_settings, tokens_as("operator", tenants=(TENANT,))) as (limited, _):
        assert (await failure(limited.update_rule(request)))[:2] == (PermissionDenied, "TENANT_NOT_ALLOWED")
        other = pb.ReserveRequest(tenant_id="other", request_id="r", resource="model.turn", subject=person())
        assert (await failure(limited.reserve(other)))[:2] == (PermissionDenied, "TENANT_NOT_ALLOWED")
        assert (await limited.reserve(asked(person()))).granted
    async with serving(make_settings, tokens_as("operator")) as (operator, _):
        await operator.update_rule(request)
        assert (await operator.reserve(asked(person()))).statuses[0].limit == 5


@pytest.mark.parametrize("told", [True, False])
async def test_a_changed_rule_holds_in_every_process_within_a_second(
    make_settings: Callable[..., Any], operator_tokens: TokenSource, told: bool
) -> None:
    """By a notice through Redis, or without one by looking."""
    poll = 3600.0 if told else 0.5
    deaf: dict[str, Any] = {} if told else {"redis_prefix": uuid4().hex}
    async with (
        serving(make_settings, operator_tokens, limits_poll_seconds=poll) as (one, _),
        serving(make_settings, operator_tokens, limits_poll_seconds=poll, **deaf) as (two, _),
    ):
        subject = person()
        assert (await two.reserve(asked(subject))).statuses[0].limit == 30
        if told:
            await listening(one, two)
        await one.create_rule(creating(quota("daily-quota", 7)))
        async with asyncio.timeout(30):
            while True:
                if (await two.reserve(asked(subject))).statuses[0].limit == 7:
                    return
                await asyncio.sleep(0.02)


async def listening(one: LimitsClient, two: LimitsClient) -> None:
    """Until a notice from one process reaches the other."""
    async with asyncio.timeout(60):
        for number in range(600):
            await one.create_rule(creating(quota(f"probe-{number}", 1, resource=f"probe.{number}")))
            await asyncio.sleep(0.1)
            if (await two.reserve(asked(person(), "probe.0"))).reservation_id:
                return


async def test_redis_may_die_and_come_back_in_the_middle(
    make_settings: Callable[..., Any], operator_tokens: TokenSource, tmp_path: Path
) -> None:
    """No call fails, none hangs, and nobody gets more than thirty."""
    redis = EmbeddedRedis(tmp_path / "own-redis")
    await asyncio.to_thread(redis.start)
    subject = person()
    loop = asyncio.get_running_loop()
    charged, slowest = 0, 0.0

    async def turn() -> bool:
        nonlocal charged, slowest
        started = loop.time()
        answer = await limits.reserve(asked(subject), timeout=90)
        if answer.granted:
            commit = pb.CommitRequest(tenant_id=TENANT, reservation_id=answer.reservation_id)
            await limits.commit(commit, timeout=90)
            charged += 1
        slowest = max(slowest, loop.time() - started)
        return answer.granted

    try:
        async with serving(make_settings, operator_tokens, redis_url=redis.url) as (limits, _):
            for _ in range(8):
                assert await turn()
            await asyncio.to_thread(redis.kill)
            for _ in range(8):
                assert await turn()
            await asyncio.to_thread(redis.start)
            async with asyncio.timeout(60):
                while charged < 30:
                    assert await turn()
                    await asyncio.sleep(0.05)
            assert not await turn()
            usage = await limits.get_usage(pb.GetUsageRequest(tenant_id=TENANT, subject=subject))
            assert (usage.statuses[0].used, charged) == (30, 30)
            assert slowest < 30.0, "calls have a minute and a half"
    finally:
        await asyncio.to_thread(redis.stop)


KIRITIMATI, PAGO_PAGO = "Pacific/Kiritimati", "Pacific/Pago_Pago"
"""25 hours apart: it is never the same date in both."""


async def resets_at(limits: LimitsClient, subject: pb.Subject) -> datetime:
    request = pb.GetUsageRequest(tenant_id=TENANT, subject=subject, resource="model.turn")
    [status] = (await limits.get_usage(request)).statuses
    return status.resets_at.ToDatetime(tzinfo=UTC)


def midnight_in(zone: str) -> datetime:
    now = datetime.now(ZoneInfo(zone))
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


async def test_lim_1_days_begin_in_the_tenants_time_zone(
    make_settings: Callable[..., Any], operator_tokens: TokenSource
) -> None:
    subject = person()
    async with serving(make_settings, operator_tokens) as (limits, _):
        assert await resets_at(limits, subject) == midnight_in("UTC")
        async with serving(make_settings, operator_tokens) as (other, _):
            answer = await limits.reserve(asked(subject, time_zone=KIRITIMATI))
            assert answer.statuses[0].resets_at.ToDatetime(tzinfo=UTC) == midnight_in(KIRITIMATI)
            assert answer.statuses[0].daily
            assert await resets_at(limits, subject) == midnight_in(KIRITIMATI)

            async def known() -> bool:
                return await resets_at(other, subject) == midnight_in(KIRITIMATI)

            await until(known)
    async with serving(make_settings, operator_tokens) as (limits, _):
        assert await resets_at(limits, subject) == midnight_in(KIRITIMATI), "it is remembered"
        await limits.reserve(asked(subject, time_zone=PAGO_PAGO))
        assert await resets_at(limits, subject) == midnight_in(PAGO_PAGO)
        await limits.reserve(asked(subject, time_zone="Mars/Olympus"))
        assert await resets_at(limits, subject) == midnight_in(PAGO_PAGO)


async def test_a_zone_of_the_rules_own_stays(limits: LimitsClient) -> None:
    zoned = pb.DailyQuota(limit=5, time_zone="Asia/Bishkek")
    await limits.create_rule(creating(quota("daily-quota", 5, daily_quota=zoned)))
    answer = await limits.reserve(asked(person(), time_zone=KIRITIMATI))
    assert answer.statuses[0].resets_at.ToDatetime(tzinfo=UTC) == midnight_in("Asia/Bishkek")


async def test_only_who_keeps_tenants_may_say_where_their_days_begin(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]
) -> None:
    async with serving(make_settings, tokens_as("integration", tenants=(TENANT,))) as (limits, _):
        answer = await limits.reserve(asked(person(), time_zone=KIRITIMATI))
        assert answer.statuses[0].resets_at.ToDatetime(tzinfo=UTC) == midnight_in("UTC")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
