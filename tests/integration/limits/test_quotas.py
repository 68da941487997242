"""Daily quotas on real stores: days, replays, losses of Redis, and what each failure mode does without it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from parley.limits.v1 import limits_pb2 as pb

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from services.kernel.errors import ParleyError
from services.limits.domain import DailyQuota, FailureMode, Override, Rule, Rules, Scope, Selector
from services.runtime.redis import node_of
from tests.integration.limits.stores import Stores, stores, subject_of
from tests.support.stores import RedisCluster, every_redis


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
    return Rule("*", rule_id, resource, scope, DailyQuota(limit, zone), mode, shadow)


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


@pytest.fixture
async def made(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Stores]:
    async with stores(postgres_url, redis_url, redis_prefix, RULES) as opened:
        yield opened


async def spend(
    made: Stores, count: int, *, contact: str = "anna", resource: str = "turn", label: str = "first"
) -> None:
    for number in range(count):
        answer = await made.reserve(f"{label}-{contact}-{number}", contact=contact, resource=resource)
        await made.commit(answer.reservation_id)


async def test_a_used_up_quota_comes_back_at_midnight(made: Stores) -> None:
    await spend(made, 3)
    refused = await made.reserve("r")
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "day", 12 * 3600)
    assert (refused.statuses[0].limit, refused.statuses[0].used, refused.statuses[0].remaining) == (3, 3, 0)
    made.pass_time(12 * 3600 - 0.001)
    assert not (await made.reserve("r")).granted
    made.pass_time(0.001)
    assert (await made.reserve("r")).granted


async def test_midnight_is_where_the_rule_says(made: Stores) -> None:
    made.time = datetime(2100, 3, 1, 17, 59, tzinfo=UTC)
    made.pass_time(0)
    assert (await made.reserve("r0", resource="local")).granted
    assert not (await made.reserve("r1", resource="local")).granted
    made.pass_time(60)
    assert (await made.reserve("r1", resource="local")).granted, "18:00 UTC is midnight in Bishkek"


async def test_a_commit_after_midnight_charges_the_day_of_the_reserve(made: Stores) -> None:
    answer = await made.reserve("r", ttl=3600)
    made.pass_time(13 * 3600)
    committed = await made.commit(answer.reservation_id)
    assert committed.statuses[0].resets_at.ToDatetime(UTC) == datetime(2100, 3, 2, tzinfo=UTC)
    assert await made.used() == {"day": 0}
    [row] = await made.pool.fetch("SELECT day::text, used FROM limits.counters")
    assert tuple(row) == ("2100-03-01", 1)


async def test_the_same_request_gives_the_same_reservation_across_midnight(made: Stores) -> None:
    made.time = datetime(2100, 3, 1, 23, 59, 59, tzinfo=UTC)
    made.pass_time(0)
    first = await made.reserve("r")
    made.pass_time(2)
    assert (await made.reserve("r")).reservation_id == first.reservation_id


async def test_a_request_id_with_another_body_is_refused(made: Stores) -> None:
    await made.reserve("r", units=1)
    with pytest.raises(ParleyError) as caught:
        await made.reserve("r", units=2)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_hold_that_runs_out_is_given_back_and_tells_when(made: Stores) -> None:
    for number, ttl in enumerate((60, 30, 90)):
        await made.reserve(f"r{number}", ttl=ttl)
    assert (await made.reserve("r3")).retry_after.seconds == 30
    made.pass_time(30)
    assert (await made.reserve("r3")).granted


@every_redis
async def test_a_refusal_by_one_rule_takes_nothing_of_the_others(made: Stores) -> None:
    await spend(made, 2, resource="both")
    await spend(made, 1, resource="both", contact="boris")
    refused = await made.reserve("r", resource="both", contact="boris")
    assert refused.refused_by == "b-tenant"
    assert await made.used("boris", "both") == {"a-contact": 1, "b-tenant": 3}


async def test_an_override_is_for_its_contact_only(made: Stores) -> None:
    await spend(made, 5, contact="vip")
    assert not (await made.reserve("r", contact="vip")).granted
    await spend(made, 3)
    assert not (await made.reserve("r2")).granted


async def test_a_shadow_quota_never_refuses(made: Stores) -> None:
    await spend(made, 3, resource="watched")
    assert await made.used(resource="watched") == {"watch": 3}


@every_redis
async def test_items_of_a_batch_see_one_another(made: Stores) -> None:
    requests = [
        pb.ReserveRequest(tenant_id="acme", request_id=f"r{n}", resource="turn", subject=subject_of("anna"))
        for n in range(5)
    ]
    results = await made.limits.reserve([*requests, requests[0]])
    granted = [result.granted for result in results if isinstance(result, pb.ReserveResponse)]
    assert granted == [True, True, True, False, False, True]
    ids = [result.reservation_id for result in results if isinstance(result, pb.ReserveResponse)]
    assert ids[5] == ids[0]
    commits = [pb.CommitRequest(tenant_id="acme", reservation_id=ids[n]) for n in (0, 0, 1)]
    replayed = [each.replayed for each in await made.limits.commit(commits) if isinstance(each, pb.CommitResponse)]
    assert (replayed, await made.used()) == ([False, True, False], {"day": 3})


@every_redis
async def test_a_batch_of_many_tenants_is_decided_as_if_they_came_alone(made: Stores) -> None:
    tenants = [f"tenant{number}" for number in range(20)]
    requests = [
        pb.ReserveRequest(tenant_id=tenant, request_id=f"r{n}", resource="turn", subject=subject_of("anna"))
        for n in range(4)
        for tenant in tenants
    ]
    results = [each for each in await made.limits.reserve(requests) if isinstance(each, pb.ReserveResponse)]
    assert [result.granted for result in results] == [True] * 60 + [False] * 20
    commits = [
        pb.CommitRequest(tenant_id=request.tenant_id, reservation_id=result.reservation_id)
        for request, result in zip(requests[:40], results, strict=False)
    ]
    assert not any(isinstance(each, ParleyError) for each in await made.limits.commit(commits))
    for request, result in zip(requests[40:60], results[40:60], strict=True):
        await made.limits.release(pb.ReleaseRequest(tenant_id=request.tenant_id, reservation_id=result.reservation_id))
    for tenant in tenants:
        made.tenant = tenant
        assert await made.used() == {"day": 2}


async def test_a_cluster_without_one_of_its_masters_decides_for_the_tenants_of_the_others(
    postgres_url: str, tmp_path: Path
) -> None:
    cluster = RedisCluster(tmp_path)
    await asyncio.to_thread(cluster.start)
    try:
        async with stores(postgres_url, cluster.url, "t", RULES) as made:
            requests = [
                pb.ReserveRequest(tenant_id=f"t{n}", request_id="r", resource="closed", subject=subject_of("anna"))
                for n in range(30)
            ]
            dead = cluster.masters[0]
            tags = [f"{{t:limits:{request.tenant_id}}}" for request in requests]
            mine = [node_of(made.redis, tag) == f"127.0.0.1:{dead.port}" for tag in tags]
            await asyncio.to_thread(dead.kill)
            results = [each for each in await made.limits.reserve(requests) if isinstance(each, pb.ReserveResponse)]
            assert 0 < sum(mine) < 30
            assert [result.granted for result in results] == [not gone for gone in mine]
    finally:
        await asyncio.to_thread(cluster.stop)


async def test_a_bad_item_fails_alone(made: Stores) -> None:
    requests = [
        pb.ReserveRequest(tenant_id="acme", request_id=f"r{n}", resource="turn", subject=subject_of(contact))
        for n, contact in enumerate(("", "anna"))
    ]
    bad, good = await made.limits.reserve(requests)
    assert isinstance(bad, ParleyError)
    assert isinstance(good, pb.ReserveResponse)
    bad_commit, good_commit = await made.limits.commit(
        [pb.CommitRequest(tenant_id="acme", reservation_id=each) for each in ("forged", good.reservation_id)]
    )
    assert isinstance(bad_commit, ParleyError)
    assert isinstance(good_commit, pb.CommitResponse)


async def test_a_commit_whose_hold_and_redis_are_gone_still_charges_once(made: Stores) -> None:
    answer = await made.reserve("r", ttl=1)
    made.pass_time(3600)
    await made.lose_redis()
    assert not (await made.commit(answer.reservation_id)).replayed
    await made.lose_redis()
    assert (await made.commit(answer.reservation_id)).replayed
    assert await made.used() == {"day": 1}


@every_redis
async def test_a_lost_redis_takes_no_used_unit_with_it(made: Stores) -> None:
    await spend(made, 3)
    await made.lose_redis()
    assert not (await made.reserve("r")).granted


@every_redis
async def test_a_commit_is_faster_than_a_load(made: Stores) -> None:
    """A count that was read before a commit never comes after it."""
    answer = await made.reserve("r")
    await made.lose_redis()
    read, go_on = asyncio.Event(), asyncio.Event()
    plain = made.limits._ledger.used

    async def slow(keys: object) -> object:
        found = await plain(keys)  # type: ignore[arg-type]
        read.set()
        await go_on.wait()
        return found

    made.limits._ledger.used = slow  # type: ignore[method-assign, assignment]
    loading = asyncio.create_task(made.used())
    await read.wait()
    await made.commit(answer.reservation_id)
    go_on.set()
    assert await loading == {"day": 1}


@every_redis
async def test_a_reset_sets_use_and_holds_to_zero_once_per_request(made: Stores) -> None:
    await spend(made, 2)
    await made.reserve("held")
    request = pb.ResetUsageRequest(tenant_id="acme", rule_id="day", subject=subject_of("anna"), request_id="reset")
    await made.limits.reset(request)
    assert await made.used() == {"day": 0}
    await spend(made, 3, label="second")
    await made.limits.reset(request)
    assert await made.used() == {"day": 3}
    await made.lose_redis()
    assert await made.used() == {"day": 3}


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def mortal(postgres_url: str, own_redis: EmbeddedRedis, redis_prefix: str) -> AsyncIterator[Stores]:
    """On a Redis that may die."""
    async with stores(postgres_url, own_redis.url, redis_prefix, RULES) as opened:
        opened.counters._pause = 0.0
        yield opened


async def test_without_redis_postgres_counts(mortal: Stores, own_redis: EmbeddedRedis) -> None:
    await spend(mortal, 1)
    await asyncio.to_thread(own_redis.stop)
    first, second = await mortal.reserve("r1"), await mortal.reserve("r2")
    assert (first.granted, second.granted, second.statuses[0].used) == (True, True, 3)
    assert (await mortal.reserve("r1")).reservation_id == first.reservation_id
    refused = await mortal.reserve("r3", ttl=60)
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "day", 300)
    await mortal.release(second.reservation_id)
    assert (await mortal.reserve("r3")).granted
    assert not (await mortal.commit(first.reservation_id)).replayed
    assert (await mortal.commit(first.reservation_id)).replayed
    assert await mortal.used() == {"day": 3}


async def test_without_redis_a_hundred_at_once_get_no_more_than_there_are(
    mortal: Stores, own_redis: EmbeddedRedis
) -> None:
    await asyncio.to_thread(own_redis.stop)
    answers = await asyncio.gather(*(mortal.reserve(f"r{number}") for number in range(100)))
    assert sum(answer.granted for answer in answers) == 3


async def test_without_redis_each_rule_does_as_its_mode_says(mortal: Stores, own_redis: EmbeddedRedis) -> None:
    await asyncio.to_thread(own_redis.stop)
    for number in range(3):
        answer = await mortal.reserve(f"open{number}", resource="open")
        assert answer.granted
        await mortal.commit(answer.reservation_id)
    refused = await mortal.reserve("closed", resource="closed")
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "closed", 1)
    assert await mortal.pool.fetchval("SELECT used FROM limits.counters WHERE rule_id = 'open'") == 3


async def test_what_was_charged_without_redis_counts_when_it_is_back(mortal: Stores, own_redis: EmbeddedRedis) -> None:
    """Redis comes back with its old data, so it knows less than Postgres: the epoch tells."""
    await spend(mortal, 1)
    held = await mortal.reserve("held")
    await asyncio.to_thread(own_redis.stop)
    await mortal.commit(held.reservation_id)
    charged = await mortal.reserve("away")
    await mortal.commit(charged.reservation_id)
    await asyncio.to_thread(own_redis.start)
    await mortal.book.refresh()
    assert await mortal.used() == {"day": 4}, "the old hold still counts until it expires"
    mortal.pass_time(300)
    assert await mortal.used() == {"day": 3}
    assert not (await mortal.reserve("r")).granted


async def test_a_charge_that_redis_missed_counts_though_its_process_ended(
    mortal: Stores, own_redis: EmbeddedRedis, postgres_url: str
) -> None:
    """Redis was only slow, so nobody sees by its run that it knows less than Postgres."""
    await spend(mortal, 2)
    held = await mortal.reserve("held")
    mortal.counters._budget = 0.05
    async with Redis.from_url(own_redis.url) as operator:
        await operator.client_pause(60_000, all=False)
        await mortal.commit(held.reservation_id)
        await operator.client_unpause()
    async with stores(postgres_url, own_redis.url, mortal.prefix, RULES) as another:
        another.pass_time(300)
        assert await another.used() == {"day": 3}


async def test_without_postgres_the_counters_that_redis_knows_decide(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        async with stores(postgres.url, redis_url, redis_prefix, RULES) as made:
            await spend(made, 1)
            await asyncio.to_thread(postgres.kill)
            requests = [
                pb.ReserveRequest(tenant_id="acme", request_id=contact, resource="turn", subject=subject_of(contact))
                for contact in ("new", "anna")
            ]
            unknown, known = await made.limits.reserve(requests)
            assert isinstance(unknown, ParleyError)
            assert unknown.reason == "STORAGE_UNAVAILABLE"
            assert isinstance(known, pb.ReserveResponse)
            assert known.granted
    finally:
        await asyncio.to_thread(postgres.kill)


async def test_a_redis_that_lost_its_last_second_is_not_believed(mortal: Stores, own_redis: EmbeddedRedis) -> None:
    await spend(mortal, 2)
    keys = [key async for key in mortal.redis.scan_iter(match="*limits:acme}:c:day:*")]
    [counter] = [key for key in keys if not key.endswith(b":holds")]
    await asyncio.to_thread(own_redis.restart)
    await mortal.redis.hset(counter, "used", "1")  # as it was before the last commit
    await mortal.book.refresh()
    assert await mortal.used() == {"day": 2}


async def test_a_redis_that_hangs_costs_its_budget_once(mortal: Stores, own_redis: EmbeddedRedis) -> None:
    loop = asyncio.get_running_loop()
    mortal.counters._budget, mortal.counters._pause = 0.05, 60.0
    await mortal.redis.client_pause(90_000)
    started = loop.time()
    assert (await mortal.reserve("r0")).granted
    assert (await mortal.reserve("r1")).granted
    assert loop.time() - started < 30, "Redis hangs for a minute and a half"


@pytest.mark.parametrize("with_redis", [True, False])
async def test_lim_2_what_was_given_back_can_be_held_anew_under_the_same_request_id(
    mortal: Stores, own_redis: EmbeddedRedis, with_redis: bool
) -> None:
    """A message has one request id, however often it is tried."""
    if not with_redis:
        await asyncio.to_thread(own_redis.kill)
    for _ in range(3):
        held, again = await mortal.reserve("message"), await mortal.reserve("message")
        assert held.granted and again.granted
        assert held.statuses[0].used == again.statuses[0].used == 1
        await mortal.release(held.reservation_id)
    last = await mortal.reserve("message")
    await mortal.commit(last.reservation_id)
    await mortal.commit(last.reservation_id)
    assert (await mortal.reserve("another")).statuses[0].used == 2
