"""DLV-4: slots are taken in lots, and the rate holds over all processes: on the limits' own use cases and a Redis."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.limits.v1 import limits_pb2

from parley_client.errors import Unavailable
from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.outbox import Priority
from services.delivery.providers.chat2desk import Chat2DeskSettings
from services.delivery.rates import LimitsRates
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import Stores, stores

RESOURCE = "provider.chat2desk"
WINDOW = 10


def rules(limit: int) -> Rules:
    return Rules(
        [
            Rule(
                "*",
                "rate",
                RESOURCE,
                Scope.CHANNEL,
                SlidingWindow(limit, WINDOW * 1000),
                FailureMode.OPEN,
                shadow=False,
            )
        ]
    )


def channel_of(number: int = 1) -> Channel:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    settings = Chat2DeskSettings()
    return Channel(
        number, "acme", f"channel-{number}", ProviderKind.CHAT2DESK, "bot", settings, True, "", {}, 1, at, at
    )


@dataclass
class Replicas:
    """Processes that send on one channel. All see one clock, which the test moves."""

    made: Stores
    channel: Channel = field(default_factory=channel_of)
    sent: list[int] = field(default_factory=list)
    asked: list[limits_pb2.ReserveRequest] = field(default_factory=list)
    away: bool = False

    def start(self) -> LimitsRates:
        return LimitsRates(self, max_wait=0.0, per_minute=0.001, chance=lambda: 0.0, time=self.time)

    def time(self) -> float:
        return self.made.milliseconds / 1000

    async def reserve(
        self, request: limits_pb2.ReserveRequest, *, timeout: float | None = None
    ) -> limits_pb2.ReserveResponse:
        self.asked.append(request)
        if self.away:
            raise Unavailable(grpc.StatusCode.UNAVAILABLE, "away")
        [answer] = await self.made.limits.reserve([request])
        assert isinstance(answer, limits_pb2.ReserveResponse)
        return answer

    async def send(self, rates: LimitsRates, count: int = 1) -> int:
        """Sends at once what may be sent; how many."""
        grants = await asyncio.gather(*(rates.ask(self.channel, RESOURCE, Priority.REPLY) for _ in range(count)))
        await asyncio.sleep(0)
        sent = sum(grant.granted and grant.wait == 0 for grant in grants)
        self.sent += [self.made.milliseconds] * sent
        return sent

    def check(self, limit: int) -> None:
        for end in self.sent:
            met = sum(end - WINDOW * 1000 < at <= end for at in self.sent)
            assert met <= limit, f"{met} calls in a window of {limit}"


@pytest.fixture
async def replicas(postgres_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Replicas]:
    async with stores(postgres_url, redis_url, redis_prefix, rules(1000)) as made:
        made.pass_time(0)
        yield Replicas(made)


async def test_a_channel_that_sends_much_takes_its_slots_in_lots(replicas: Replicas) -> None:
    rates = replicas.start()
    for _ in range(40):
        assert await replicas.send(rates) == 1
        replicas.made.pass_time(0.05)
    assert len(replicas.asked) <= 20 + 4, "after the first second two questions a second are enough"
    assert max(request.units for request in replicas.asked) <= 20, "a lot is no larger than what a second took"
    assert sum(request.units or 1 for request in replicas.asked) <= 20 + 3 * 20


async def test_an_idle_channel_takes_one_slot_at_a_time_and_no_lot_is_left_of_it(replicas: Replicas) -> None:
    rates = replicas.start()
    for _ in range(4):
        assert await replicas.send(rates) == 1
        replicas.made.pass_time(3)
    assert [request.units for request in replicas.asked] == [0, 0, 0, 0]


async def test_a_lot_in_hand_is_good_for_a_second_even_if_limits_is_away_and_nothing_is_beyond_it(
    replicas: Replicas,
) -> None:
    rates = replicas.start()
    await replicas.send(rates, 8)
    await replicas.send(rates, 1)
    [*_, lot] = replicas.asked
    assert lot.units == 8
    replicas.away = True
    replicas.made.pass_time(0.9)
    assert await replicas.send(rates, 3) == 3
    replicas.made.pass_time(0.2)
    assert await replicas.send(rates, 3) == 3, "the slow pace of a process that is alone begins with three"
    assert await replicas.send(rates, 3) == 0


async def test_a_pause_drops_what_is_in_hand(replicas: Replicas) -> None:
    rates = replicas.start()
    await replicas.send(rates, 8)
    await replicas.send(rates, 1)
    rates.drop(replicas.channel.key)
    asked = len(replicas.asked)
    assert rates.take(replicas.channel, RESOURCE) is None
    assert await replicas.send(rates, 1) == 1
    assert len(replicas.asked) == asked + 1


async def test_a_slot_that_was_not_needed_is_there_for_the_next(replicas: Replicas) -> None:
    rates = replicas.start()
    await replicas.send(rates, 8)
    await replicas.send(rates, 7)
    until = rates.take(replicas.channel, RESOURCE)
    assert until is not None
    assert rates.take(replicas.channel, RESOURCE) is None
    rates.put_back(replicas.channel.key, until)
    assert rates.take(replicas.channel, RESOURCE) == until


async def test_a_rate_that_is_lowered_holds_within_a_second(replicas: Replicas) -> None:
    rates = replicas.start()
    await replicas.send(rates, 20)
    await replicas.send(rates, 1)
    replicas.made.give(rules(20))
    replicas.made.pass_time(1.0)
    assert await replicas.send(rates, 5) == 0


async def test_when_most_of_a_rate_is_used_slots_are_taken_one_by_one(replicas: Replicas) -> None:
    """Then no process has slots in hand that another waits for: all of the rate is used, by whoever needs it."""
    replicas.made.give(rules(40))
    one, other = replicas.start(), replicas.start()
    for _ in range(10):
        for rates in (one, other):
            await replicas.send(rates, 3)
        replicas.made.pass_time(0.3)
    assert 40 - 6 <= len(replicas.sent) <= 40, "no more is lost than what was left of a lot of each"
    assert [request.units for request in replicas.asked[-10:]] == [0] * 10
    replicas.check(40)


@pytest.mark.parametrize(("limit", "times", "examples"), [(5, 1, 20), (30, 1, 20), (1100, 20, 4)])
def test_the_rate_holds_over_all_processes_whatever_becomes_of_them(
    postgres_url: str, redis_url: str, redis_prefix: str, limit: int, times: int, examples: int
) -> None:
    """Several send at their own pace, pause, die with lots in hand and start again."""
    loop = asyncio.new_event_loop()
    step = st.tuples(
        st.integers(0, 2),
        st.sampled_from(["send", "send", "send", "die", "pause"]),
        st.integers(1, 12),
        st.sampled_from([0, 1, 40, 300, 700, 999, 1000, 2500]),
    )

    async def sequence(made: Stores, steps: Sequence[tuple[int, str, int, int]], number: int) -> None:
        replicas = Replicas(made, channel_of(number))
        running = [replicas.start() for _ in range(3)]
        for which, what, count, pause in steps:
            if what == "send":
                await replicas.send(running[which], count * times)
            elif what == "die":
                running[which] = replicas.start()
            else:
                running[which].drop(number)
            made.pass_time(pause / 1000)
        replicas.check(limit)

    async def play() -> None:
        async with stores(postgres_url, redis_url, redis_prefix, rules(limit)) as made:
            made.pass_time(0)
            numbers = iter(range(1, 1_000_000))

            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(step, min_size=10, max_size=60))
            def many(steps: list[tuple[int, str, int, int]]) -> None:
                asyncio.run_coroutine_threadsafe(sequence(made, steps, next(numbers)), loop).result(120)

            await asyncio.to_thread(many)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
