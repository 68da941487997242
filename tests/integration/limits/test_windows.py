"""Sliding windows: never more than the limit in any stretch of their length; future slots that spread out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import ParleyError
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.reservations import MOST_EXACT
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import Stores, stores, subject_of
from tests.support.stores import every_redis

Step = TypeVar("Step")

LENGTH = 60


def window_rule(rule_id: str, resource: str, limit: int, shadow: bool = False) -> Rule:
    return Rule("*", rule_id, resource, Scope.CONTACT, SlidingWindow(limit, LENGTH * 1000), FailureMode.OPEN, shadow)


RULES = Rules(
    [
        window_rule("few", "exact", 3),
        window_rule("many", "buckets", MOST_EXACT + 200),
        window_rule("all", "mixed", 5),
        window_rule("tight", "mixed", 2),
        window_rule("watch", "watched", 1, shadow=True),
        window_rule("real", "watched", 3),
        window_rule("look", "only-watched", 5, shadow=True),
    ]
)


@pytest.fixture
async def made(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Stores]:
    async with stores(postgres_url, redis_url, redis_prefix, RULES) as opened:
        yield opened


async def test_a_unit_comes_free_when_the_first_leaves_the_window(made: Stores) -> None:
    for number in range(3):
        assert (await made.reserve(f"r{number}", resource="exact")).granted
        made.pass_time(10)
    refused = await made.reserve("r3", resource="exact")
    assert (refused.granted, refused.refused_by, refused.retry_after.seconds) == (False, "few", 30)
    assert refused.statuses[0].resets_at.ToMilliseconds() == made.milliseconds + 30_000
    made.pass_time(29.999)
    assert not (await made.reserve("r3", resource="exact")).granted
    made.pass_time(0.001)
    assert (await made.reserve("r3", resource="exact")).granted


@every_redis
async def test_those_who_can_wait_get_slots_one_after_the_other(made: Stores) -> None:
    for number in range(3):
        await made.reserve(f"r{number}", resource="exact")
        made.pass_time(2)
    waits = [(await made.reserve(f"w{number}", resource="exact", max_wait=600)).wait.seconds for number in range(7)]
    assert waits == [54, 56, 58, 114, 116, 118, 174]
    impatient = await made.reserve("now", resource="exact")
    assert (impatient.granted, impatient.retry_after.seconds) == (False, 176), "nobody overtakes those who wait"
    beyond = await made.reserve("beyond", resource="exact", max_wait=175)
    assert (beyond.granted, (await made.used(resource="exact"))["few"]) == (False, 10)


@every_redis
async def test_a_slot_given_back_is_free_for_the_next(made: Stores) -> None:
    first = await made.reserve("r0", resource="exact")
    for number in (1, 2):
        await made.reserve(f"r{number}", resource="exact")
    await made.release(first.reservation_id)
    await made.release(first.reservation_id)
    assert (await made.reserve("r3", resource="exact")).granted
    assert not (await made.reserve("r4", resource="exact")).granted


async def test_a_slot_is_remembered_no_longer_than_its_window(made: Stores) -> None:
    """Delivery takes one per call and settles none."""

    async def remembered(request_id: str, ttl: float, max_wait: float = 0) -> float:
        before = [key async for key in made.redis.scan_iter(match=f"{{{made.prefix}:limits:*}}:r:*")]
        assert (await made.reserve(request_id, resource="exact", ttl=ttl, max_wait=max_wait)).granted
        after = [key async for key in made.redis.scan_iter(match=f"{{{made.prefix}:limits:*}}:r:*")]
        [record] = set(after) - set(before)
        left: int = await made.redis.pttl(record)
        return left / 1000

    assert 0 < await remembered("slot", 3600) <= LENGTH
    assert LENGTH - 30 < await remembered("hold", LENGTH - 10) <= LENGTH - 10, "it may still be given back"
    await made.reserve("third", resource="exact")
    assert LENGTH < await remembered("later", 3600, max_wait=600) <= 2 * LENGTH, "counted from the slot"


@pytest.mark.parametrize("limit", [3, MOST_EXACT + 200])
async def test_a_window_of_another_length_counts_anew(made: Stores, limit: int) -> None:
    for seconds in (60, 3600, 1, 86_400):
        rule = Rule("*", "r", "x", Scope.CONTACT, SlidingWindow(limit, seconds * 1000), FailureMode.OPEN, False)
        made.give(Rules([rule]))
        assert (await made.reserve(f"all of {seconds}", resource="x", units=limit)).granted
        refused = await made.reserve(f"one more of {seconds}", resource="x")
        assert 0 < refused.retry_after.ToMilliseconds() <= seconds * 1000 * 62 / 60
        made.pass_time(0.5)


async def test_a_reset_that_redis_could_not_do_is_done_by_the_same_request(made: Stores) -> None:
    for number in range(3):
        await made.reserve(f"r{number}", resource="exact")
    request = pb.ResetUsageRequest(tenant_id="acme", rule_id="few", subject=subject_of("anna"), request_id="reset")
    made.counters._absences[""].until = monotonic() + 600
    with pytest.raises(ParleyError) as raised:
        await made.limits.reset(request)
    assert raised.value.reason == "STORAGE_UNAVAILABLE"
    made.counters._absences[""].until = 0.0
    assert (await made.used(resource="exact"))["few"] == 3
    await made.limits.reset(request)
    assert (await made.used(resource="exact"))["few"] == 0
    assert (await made.reserve("again", resource="exact")).granted
    await made.limits.reset(request)
    assert (await made.used(resource="exact"))["few"] == 1


async def test_what_was_committed_cannot_be_given_back(made: Stores) -> None:
    for number in range(3):
        answer = await made.reserve(f"r{number}", resource="exact")
        assert not (await made.commit(answer.reservation_id)).replayed
        assert (await made.commit(answer.reservation_id)).replayed
        await made.release(answer.reservation_id)
    assert not (await made.reserve("r3", resource="exact")).granted


@pytest.mark.parametrize(("resource", "units"), [("exact", 3), ("buckets", MOST_EXACT + 200)])
async def test_a_hold_that_nobody_settles_comes_back(made: Stores, resource: str, units: int) -> None:
    await made.reserve("r0", resource=resource, units=units, ttl=5)
    committed = await made.reserve("r1", contact="boris", resource=resource, units=units, ttl=5)
    await made.commit(committed.reservation_id)
    assert not (await made.reserve("r2", resource=resource)).granted
    made.pass_time(5)
    assert (await made.reserve("r2", resource=resource)).granted
    assert not (await made.reserve("r3", contact="boris", resource=resource)).granted


@every_redis
async def test_a_slot_is_good_for_all_windows_or_none_is_taken(made: Stores) -> None:
    await made.reserve("r0", resource="mixed", units=2)
    refused = await made.reserve("r1", resource="mixed", units=1)
    assert (refused.granted, refused.refused_by) == (False, "tight")
    assert await made.used(resource="mixed") == {"all": 2, "tight": 2}
    later = await made.reserve("r2", resource="mixed", units=2, max_wait=60)
    assert (later.granted, later.wait.seconds) == (True, 60)
    never = await made.reserve("r3", resource="mixed", units=3, max_wait=3600)
    assert (never.granted, never.refused_by) == (False, "tight")


async def test_a_million_units_under_a_rule_that_only_watches_are_counted_as_too_many(made: Stores) -> None:
    """Each was a line of its own in Redis, which served nobody else for a second."""
    begun = monotonic()
    answer = await made.reserve("r", resource="only-watched", units=1_000_000)
    assert answer.granted
    assert monotonic() - begun < 0.5
    assert answer.statuses[0].used >= MOST_EXACT
    await made.release(answer.reservation_id)
    assert (await made.reserve("r2", resource="only-watched")).statuses[0].used == 1


async def test_a_shadow_rule_counts_and_never_refuses(made: Stores) -> None:
    for number in range(3):
        answer = await made.reserve(f"r{number}", resource="watched")
    assert answer.granted
    statuses = {status.rule_id: status for status in answer.statuses}
    assert (statuses["watch"].used, statuses["watch"].remaining, statuses["watch"].shadow) == (3, 0, True)
    refused = await made.reserve("r3", resource="watched")
    assert (refused.refused_by, await made.used(resource="watched")) == ("real", {"real": 3, "watch": 3})


def hold_for_examples(
    step: st.SearchStrategy[Step],
    sequence: Callable[[Stores, list[Step]], Coroutine[Any, Any, None]],
    postgres_url: str,
    redis_url: str,
    redis_prefix: str,
) -> None:
    """Plays many sequences of steps, all on the same stores."""
    loop = asyncio.new_event_loop()

    async def play() -> None:
        async with stores(postgres_url, redis_url, redis_prefix, RULES) as made:

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(step, min_size=5, max_size=25))
            def many(steps: list[Step]) -> None:
                asyncio.run_coroutine_threadsafe(sequence(made, steps), loop).result(60)

            await asyncio.to_thread(many)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()


@pytest.mark.parametrize("resource", ["exact", "buckets"])
def test_no_stretch_of_time_holds_more_than_the_limit(
    postgres_url: str, redis_url: str, redis_prefix: str, resource: str
) -> None:
    limit = {"exact": 3, "buckets": MOST_EXACT + 200}[resource]
    size = 1 if resource == "exact" else 400
    step = st.tuples(st.integers(0, 25_000), st.integers(1, 3), st.sampled_from([0, 30, 300]), st.booleans())

    async def sequence(made: Stores, steps: list[tuple[int, int, int, bool]]) -> None:
        contact, slots = uuid4().hex, []
        for number, (pause, units, max_wait, back) in enumerate(steps):
            made.pass_time(pause / 1000)
            name = f"{contact}-{number}"
            answer = await made.reserve(
                name, contact=contact, resource=resource, units=units * size, max_wait=max_wait, ttl=3600
            )
            if answer.granted and back:
                await made.release(answer.reservation_id)
            elif answer.granted:
                slots.append((made.milliseconds + answer.wait.ToMilliseconds(), units * size))
        assert slots == sorted(slots, key=lambda slot: slot[0])
        for end, _ in slots:
            assert sum(units for at, units in slots if end - LENGTH * 1000 < at <= end) <= limit

    hold_for_examples(step, sequence, postgres_url, redis_url, redis_prefix)


@pytest.mark.parametrize("resource", ["exact", "buckets"])
def test_units_that_last_are_never_more_than_the_limit_whenever_they_are_used(
    postgres_url: str, redis_url: str, redis_prefix: str, resource: str
) -> None:
    """Several callers take lots, single slots and slots to come, and some are given back. Each unit may be used at any
    moment between its grant and its end: no window may meet the moments of more than the limit."""
    limit = {"exact": 3, "buckets": MOST_EXACT + 200}[resource]
    size = 1 if resource == "exact" else 400
    step = st.tuples(
        st.integers(0, 25_000),
        st.integers(1, 3),
        st.sampled_from([0, 30, 300]),
        st.sampled_from([0, 0.25, 1.5, 10]),
        st.booleans(),
    )

    async def sequence(made: Stores, steps: list[tuple[int, int, int, float, bool]]) -> None:
        contact, granted = uuid4().hex, []
        for number, (pause, units, max_wait, lasts, back) in enumerate(steps):
            made.pass_time(pause / 1000)
            answer = await made.reserve(
                f"{contact}-{number}",
                contact=contact,
                resource=resource,
                units=units * size,
                max_wait=max_wait,
                lasts=lasts,
                ttl=3600,
            )
            if answer.granted and back:
                await made.release(answer.reservation_id)
            elif answer.granted:
                at = made.milliseconds + answer.wait.ToMilliseconds()
                granted.append((at, at + int(lasts * 1000), units * size))
        for end, _, _ in granted:
            met = [units for at, last, units in granted if at <= end and last > end - LENGTH * 1000]
            assert sum(met) <= limit

    hold_for_examples(step, sequence, postgres_url, redis_url, redis_prefix)


@every_redis
@pytest.mark.parametrize("resource", ["exact", "buckets"])
async def test_nobody_waits_for_the_end_of_a_lot_while_there_is_room(made: Stores, resource: str) -> None:
    lot = await made.reserve("lot", resource=resource, units=2, lasts=10, max_wait=60)
    single = await made.reserve("single", resource=resource, max_wait=60)
    assert (lot.granted, lot.HasField("wait"), single.granted, single.HasField("wait")) == (True, False, True, False)


@every_redis
async def test_a_lot_counts_until_its_window_has_passed_since_its_end_and_given_back_it_is_free(made: Stores) -> None:
    for resource, units in (("exact", 3), ("buckets", MOST_EXACT + 200)):
        lot = await made.reserve(f"lot of {resource}", resource=resource, units=units, lasts=10, ttl=20)
        made.pass_time(LENGTH + 9)
        assert not (await made.reserve(f"{resource} early", resource=resource)).granted
        made.pass_time(3)
        again = await made.reserve(f"{resource} again", resource=resource, units=units, lasts=10)
        assert lot.granted
        assert again.granted
        assert not (await made.reserve(f"{resource} more", resource=resource)).granted
        await made.release(again.reservation_id)
        assert (await made.reserve(f"{resource} free", resource=resource)).granted


async def test_counting_by_buckets_wastes_less_than_two_sixtieths(made: Stores) -> None:
    """A window emptied at once comes free again within its length and two buckets."""
    await made.reserve("r0", resource="buckets", units=MOST_EXACT + 200)
    made.pass_time(59)
    assert not (await made.reserve("r1", resource="buckets")).granted
    made.pass_time(3)
    assert (await made.reserve("r1", resource="buckets")).granted
