"""Daily quotas while Redis or Postgres is away, and after it came back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from parley.limits.v1 import limits_pb2 as pb

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from services.kernel.errors import ParleyError
from services.runtime.redis import node_of
from tests.integration.limits.quotas import RULES, spend
from tests.integration.limits.stores import Stores, stores, subject_of
from tests.support.stores import RedisCluster


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
