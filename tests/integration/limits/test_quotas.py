"""Daily quotas on real stores: days, replays, batches, and what a lost Redis takes with it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import ParleyError
from tests.integration.limits.quotas import RULES, spend
from tests.integration.limits.stores import Stores, stores, subject_of
from tests.support.stores import every_redis


@pytest.fixture
async def made(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Stores]:
    async with stores(postgres_url, redis_url, redis_prefix, RULES) as opened:
        yield opened


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
