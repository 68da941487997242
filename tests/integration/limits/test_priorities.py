"""Broadcasts never delay replies: they get what replies leave of a rate."""

from collections.abc import AsyncIterator, Iterator
from math import ceil

import pytest

from parley.limits.v1 import limits_pb2 as pb

from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.algorithms.token_bucket import TokenBucket
from services.limits.domain.reservations import MOST_EXACT
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import Stores, reserve_request, stores
from tests.support.stores import every_redis

RULES = Rules(
    [
        Rule("*", resource, resource, Scope.CHANNEL, algorithm, FailureMode.OPEN)
        for resource, algorithm in {
            "exact": SlidingWindow(300, 60_000),
            "buckets": SlidingWindow(MOST_EXACT + 200, 240_000),
            "bucket": TokenBucket(30, 6_000),
            "small": SlidingWindow(3, 60_000),
            "single": TokenBucket(1, 1_000),
        }.items()
    ]
)
"""The large ones allow 300 a minute in the long run."""


@pytest.fixture
async def made(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Stores]:
    async with stores(postgres_url, redis_url, redis_prefix, RULES) as opened:
        yield opened


def requests(
    names: Iterator[int], count: int, resource: str, priority: "pb.Priority.ValueType"
) -> list[pb.ReserveRequest]:
    made = [reserve_request("acme", str(next(names)), "anna", resource, 1, 3600, 60, 0) for _ in range(count)]
    for each in made:
        each.priority = priority
    return made


async def ask(made: Stores, asked: list[pb.ReserveRequest]) -> list[pb.ReserveResponse]:
    answers = await made.limits.reserve(asked)
    assert all(isinstance(each, pb.ReserveResponse) for each in answers)
    return [each for each in answers if isinstance(each, pb.ReserveResponse)]


async def play(made: Stores, resource: str, broadcast: int, seconds: int) -> tuple[list[int], int]:
    """The waits of replies, ten in every five seconds and none to twenty more; and the broadcasts that are left.

    Every five seconds twenty broadcasts are tried, before the replies: more than could ever be granted.
    """
    names, waits = iter(range(1_000_000)), []
    for tick in range(seconds // 5):
        tried = min(20, broadcast)
        if tried:
            granted = await ask(made, requests(names, tried, resource, pb.PRIORITY_BROADCAST))
            assert not any(each.HasField("wait") for each in granted), "a broadcast has no slot that others wait behind"
            broadcast -= sum(each.granted for each in granted)
        for reply in await ask(made, requests(names, 10 + tick % 3, resource, pb.PRIORITY_REPLY)):
            assert reply.granted
            waits.append(reply.wait.ToMilliseconds())
        made.pass_time(5)
    return sorted(waits), broadcast


@pytest.mark.parametrize("resource", ["exact", "buckets", "bucket"])
async def test_replies_wait_no_longer_beside_a_broadcast_of_ten_thousand(
    postgres_url: str, redis_url: str, redis_prefix: str, resource: str
) -> None:
    waits, left = {}, {}
    for broadcast in (0, 10_000):
        async with stores(postgres_url, redis_url, f"{redis_prefix}{broadcast}", RULES) as made:
            waits[broadcast], left[broadcast] = await play(made, resource, broadcast, 1200)
    at = {count: each[ceil(len(each) * 0.99) - 1] for count, each in waits.items()}
    assert at[10_000] == at[0] == 0
    assert waits[10_000] == waits[0], "not one waits longer"
    assert left[10_000] < 10_000 - 200, "the broadcast goes on all the while"


@every_redis
async def test_a_reply_that_waits_for_a_slot_is_overtaken_by_no_broadcast(made: Stores) -> None:
    for number in range(3):
        assert (await made.reserve(f"b{number}", resource="small", priority=pb.PRIORITY_BROADCAST)).granted == (
            number < 2
        ), "one of three is left to replies"
    assert not (await made.reserve("r0", resource="small")).HasField("wait")
    waiting = await made.reserve("r1", resource="small", max_wait=600)
    assert waiting.wait.seconds == 60
    made.pass_time(59)
    refused = await made.reserve("b3", resource="small", priority=pb.PRIORITY_BROADCAST, max_wait=600)
    assert (refused.granted, refused.refused_by) == (False, "small")
    assert refused.retry_after.seconds >= 1, "after the reply's slot"


async def test_a_rate_of_one_is_not_shared_but_nobody_waits_behind_broadcasts(made: Stores) -> None:
    assert (await made.reserve("b0", resource="single", priority=pb.PRIORITY_BROADCAST, max_wait=60)).granted
    for number in range(5):
        assert not (
            await made.reserve(f"b1{number}", resource="single", priority=pb.PRIORITY_BROADCAST, max_wait=60)
        ).granted
    reply = await made.reserve("r", resource="single", max_wait=60)
    assert (reply.granted, reply.wait.ToMilliseconds()) == (True, 1000), "the next slot is the reply's"
