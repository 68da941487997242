"""LIM-3: budgets, token buckets and concurrency limits on real stores, and commits of what was really used."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.limits.domain.algorithms.base import Algorithm
from services.limits.domain.algorithms.calendar_quota import Budget, CalendarQuota
from services.limits.domain.algorithms.concurrency import Concurrency
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.algorithms.token_bucket import TokenBucket
from services.limits.domain.periods import Period
from services.limits.domain.reservations import MOST_EXACT
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import Stores, stores
from tests.support.stores import every_redis

MANY = MOST_EXACT + 200


def rule(rule_id: str, resource: str, algorithm: Algorithm, *, shadow: bool = False) -> Rule:
    mode = FailureMode.POSTGRES if algorithm.in_postgres else FailureMode.OPEN
    return Rule("*", rule_id, resource, Scope.CONTACT, algorithm, mode, shadow)


RULES = Rules(
    [
        rule("turns", "turn", CalendarQuota(10, "UTC")),
        rule("tokens", "turn", Budget(1000, "UTC", Period.MONTH, "tokens")),
        rule("money", "turn", Budget(50, "UTC", Period.DAY, "usd_micros")),
        rule("week", "weekly", CalendarQuota(2, "Asia/Bishkek", Period.WEEK)),
        rule("bucket", "bucket", TokenBucket(10, 10_000, 4)),
        rule("watch", "watched", TokenBucket(1, 10_000), shadow=True),
        rule("two", "together", Concurrency(2)),
        rule("few", "exact", SlidingWindow(5, 60_000)),
        rule("many", "buckets", SlidingWindow(MANY, 60_000)),
    ]
)


@pytest.fixture
async def made(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Stores]:
    async with stores(postgres_url, redis_url, redis_prefix, RULES) as opened:
        yield opened


@every_redis
async def test_a_budget_holds_the_estimate_and_charges_what_was_used(made: Stores) -> None:
    held = await made.reserve("r1", amounts={"tokens": 400, "usd_micros": 7})
    assert {each.rule_id: (each.used, each.unit) for each in held.statuses} == {
        "turns": (1, ""),
        "tokens": (400, "tokens"),
        "money": (7, "usd_micros"),
    }
    refused = await made.reserve("r2", amounts={"tokens": 601})
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "tokens", 300)
    charged = await made.commit(held.reservation_id, amounts={"tokens": 1, "usd_micros": 0})
    assert {each.rule_id: each.used for each in charged.statuses} == {"turns": 1, "tokens": 1, "money": 0}
    again = await made.commit(held.reservation_id, amounts={"tokens": 999})
    assert again.replayed
    assert await made.used() == {"turns": 1, "tokens": 1, "money": 0}
    await made.lose_redis()
    assert await made.used() == {"turns": 1, "tokens": 1, "money": 0}


async def test_a_commit_may_charge_more_than_is_left_and_nothing_is_granted_until_the_period_ends(made: Stores) -> None:
    held = await made.reserve("r1", amounts={"tokens": 10})
    charged = await made.commit(held.reservation_id, units=3, amounts={"tokens": 5000})
    [over] = [each for each in charged.statuses if each.rule_id == "tokens"]
    assert (over.used, over.remaining) == (5000, 0)
    refused = await made.reserve("r2")
    assert (refused.granted, refused.refused_by) == (False, "tokens")
    assert refused.retry_after.seconds == 30 * 86_400 + 12 * 3600, "from noon of 1 March to April"
    assert await made.used() == {"turns": 3, "tokens": 5000, "money": 1}, "what is not named was used as reserved"
    made.pass_time(refused.retry_after.seconds)
    assert (await made.reserve("r3")).granted


async def test_what_cost_nothing_is_charged_nothing(made: Stores) -> None:
    held = await made.reserve("r1", amounts={"tokens": 10})
    await made.commit(held.reservation_id, units=0, amounts={"tokens": 0, "usd_micros": 0})
    assert await made.used() == {"turns": 0, "tokens": 0, "money": 0}


async def test_a_week_begins_on_monday_where_the_rule_says(made: Stores) -> None:
    made.time = datetime(2100, 3, 7, 17, 59, tzinfo=UTC)  # a Sunday, 23:59 in Bishkek
    made.pass_time(0)
    for number in range(2):
        await made.commit((await made.reserve(f"r{number}", resource="weekly")).reservation_id)
    assert (await made.reserve("r2", resource="weekly")).retry_after.seconds == 60
    made.pass_time(60)
    granted = await made.reserve("r2", resource="weekly")
    assert (granted.granted, granted.statuses[0].daily) == (True, False)
    made.pass_time(6 * 86_400)
    assert (await made.used(resource="weekly")) == {"week": 0}, "the hold has expired"


@every_redis
async def test_a_bucket_gives_a_burst_and_then_a_unit_a_second(made: Stores) -> None:
    burst = [await made.reserve(f"r{number}", resource="bucket") for number in range(5)]
    assert [each.granted for each in burst] == [True] * 4 + [False]
    assert burst[3].statuses[0].remaining == 0
    assert (burst[4].refused_by, burst[4].retry_after.ToMilliseconds()) == ("bucket", 1000)
    waits = [await made.reserve(f"w{number}", resource="bucket", max_wait=60) for number in range(3)]
    assert [each.wait.seconds for each in waits] == [1, 2, 3]
    made.pass_time(4)
    assert (await made.reserve("after", resource="bucket")).granted
    made.pass_time(600)
    assert (await made.used(resource="bucket")) == {"bucket": 0}
    assert not (await made.reserve("never", resource="bucket", units=5, max_wait=600)).granted


@every_redis
async def test_a_bucket_charges_what_was_really_used(made: Stores) -> None:
    more = await made.reserve("more", resource="bucket")
    await made.commit(more.reservation_id, units=14)
    assert (await made.used(resource="bucket")) == {"bucket": 14}
    assert (await made.reserve("r", resource="bucket")).retry_after.seconds == 11
    await made.commit(more.reservation_id, units=14)
    assert (await made.used(resource="bucket")) == {"bucket": 14}, "once"
    less = await made.reserve("less", contact="boris", resource="bucket", units=4)
    await made.commit(less.reservation_id, units=1)
    assert (await made.used("boris", "bucket")) == {"bucket": 1}
    back = await made.reserve("back", contact="carla", resource="bucket", units=4)
    await made.release(back.reservation_id)
    await made.release(back.reservation_id)
    assert (await made.used("carla", "bucket")) == {"bucket": 0}


async def test_a_bucket_that_only_watches_owes_nothing(made: Stores) -> None:
    for number in range(50):
        assert (await made.reserve(f"r{number}", resource="watched", units=1000)).granted
    made.pass_time(10 * 1001)
    assert (await made.used(resource="watched")) == {"watch": 0}


@every_redis
async def test_so_many_work_at_the_same_time_until_each_is_done_or_its_time_is_over(made: Stores) -> None:
    first = await made.reserve("r1", resource="together", ttl=60)
    second = await made.reserve("r2", resource="together", ttl=30)
    refused = await made.reserve("r3", resource="together")
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "two", 1)
    assert (await made.reserve("r1", resource="together", ttl=60)).reservation_id == first.reservation_id
    await made.commit(first.reservation_id)
    assert (await made.reserve("r3", resource="together", ttl=60)).granted
    await made.release(second.reservation_id)
    await made.release(second.reservation_id)
    assert (await made.used(resource="together")) == {"two": 1}
    assert (await made.reserve("r4", resource="together", ttl=30)).granted
    made.pass_time(30)
    assert (await made.used(resource="together")) == {"two": 1}, "what nobody settles ends by itself"
    made.pass_time(30)
    assert (await made.used(resource="together")) == {"two": 0}


async def test_no_key_of_a_counter_stays_for_ever(made: Stores) -> None:
    for resource in ("turn", "weekly", "bucket", "watched", "together", "exact", "buckets"):
        for number in range(2):
            held = await made.reserve(f"{resource}{number}", resource=resource, ttl=5)
            if number:
                await made.commit(held.reservation_id, units=2)
    keys = [key async for key in made.redis.scan_iter(match=f"{{{made.prefix}:limits:*")]
    assert keys
    assert [key for key in keys if await made.redis.pttl(key) < 0] == []


@pytest.mark.parametrize(("resource", "limit", "unit"), [("exact", 5, 1), ("buckets", MANY, 100)])
async def test_a_window_counts_what_was_really_used(made: Stores, resource: str, limit: int, unit: int) -> None:
    """Of what was reserved; a hold that has expired was given back, and a late commit changes nothing."""
    less = await made.reserve("less", resource=resource, units=3 * unit, ttl=600)
    await made.commit(less.reservation_id, units=unit)
    assert list((await made.used(resource=resource)).values()) == [unit]
    more = await made.reserve("more", resource=resource, units=unit, ttl=30)
    await made.commit(more.reservation_id, units=limit)
    assert list((await made.used(resource=resource)).values()) == [limit + unit]
    assert not (await made.reserve("r", resource=resource)).granted
    made.pass_time(62)
    late = await made.reserve("late", resource=resource, ttl=10)
    made.pass_time(11)
    await made.commit(late.reservation_id, units=limit)
    assert list((await made.used(resource=resource)).values()) == [0]


def test_no_stretch_of_time_gets_more_of_a_bucket_than_a_burst_and_the_refill(
    postgres_url: str, redis_url: str, redis_prefix: str
) -> None:
    """However many are taken at once, for later, for a while, given back, or used in part."""
    loop = asyncio.new_event_loop()
    step = st.tuples(
        st.integers(0, 4_000),
        st.integers(1, 4),
        st.sampled_from([0, 3, 30]),
        st.sampled_from([0, 0.25, 1.5]),
        st.sampled_from(["use", "use", "release", "part"]),
    )

    async def sequence(made: Stores, steps: list[tuple[int, int, int, float, str]]) -> None:
        contact, granted = uuid4().hex, []
        for number, (pause, units, max_wait, lasts, what) in enumerate(steps):
            made.pass_time(pause / 1000)
            request_id = f"{contact}-{number}"
            options = {"units": units, "max_wait": max_wait, "lasts": lasts, "ttl": 3600.0}
            answer = await made.reserve(request_id, contact=contact, resource="bucket", **options)  # type: ignore[arg-type]
            if not answer.granted:
                assert answer.retry_after.ToMilliseconds() > max_wait * 1000
                continue
            if what == "release":
                made.pass_time(0.3)
                await made.release(answer.reservation_id)
                continue
            used = units if what == "use" else units - 1
            if used < units:
                await made.commit(answer.reservation_id, units=used)
            at = made.milliseconds + answer.wait.ToMilliseconds()
            granted.append((at, at + int(lasts * 1000), used))
        for _, begin, _ in granted:
            for end in {begin, *(at for at, _, _ in granted if at > begin)}:
                met = sum(units for at, last, units in granted if at <= end and last >= begin)
                assert met <= 4 + (end - begin) / 1000

    async def play() -> None:
        async with stores(postgres_url, redis_url, redis_prefix, RULES) as made:

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(step, min_size=5, max_size=25))
            def many(steps: list[tuple[int, int, int, float, str]]) -> None:
                asyncio.run_coroutine_threadsafe(sequence(made, steps), loop).result(60)

            await asyncio.to_thread(many)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
