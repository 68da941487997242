"""A delivery that finds its lane idle is leased and begun by the statement that stores it: decision 0032.

The slots are in hand from the beginning here; how they come there is tested in test_rates.py.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from aiohttp import web

from parley.delivery.v1 import delivery_pb2

import services.delivery.wiring as wiring
from services.delivery.domain.channels import Channel
from services.delivery.postgres.work import PostgresWorkStore
from services.delivery.rates import LimitsRates
from services.delivery.usecases.ports import Claimed
from services.runtime.lanes import Dispatcher, Found, Room
from tests.integration.delivery.conftest import (
    DEAD,
    PENDING,
    SENT,
    STARTED,
    UNKNOWN,
    Call,
    Delivery,
    World,
    message,
    until,
)
from tests.integration.delivery.test_crashes import leases_run_out

IN_HAND = 1e12


class InHand(LimitsRates):
    """Slots enough, in hand; `taken` and not put back."""

    taken = 0

    def take(self, channel: Channel, resource: str) -> float | None:
        InHand.taken += 1
        return IN_HAND

    def put_back(self, channel_key: int, until: float) -> None:
        assert until == IN_HAND
        InHand.taken -= 1


class Quiet(Dispatcher[Claimed]):
    """Claims at the start, when a timer is over and when work leaves something: never just while a test stores."""

    def wake(self, after: float = 0.0) -> None:
        if after > 0:
            super().wake(after)


@pytest.fixture
async def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes each claim has found."""
    found: list[int] = []
    claim = PostgresWorkStore.claim

    async def counted(self: PostgresWorkStore, room: Room, ttl: timedelta) -> Found[Claimed]:
        answer = await claim(self, room, ttl)
        found.append(len(answer.items))
        return answer

    monkeypatch.setattr(PostgresWorkStore, "claim", counted)
    monkeypatch.setattr(InHand, "taken", 0)
    monkeypatch.setattr(wiring, "LimitsRates", InHand)
    monkeypatch.setattr(wiring, "Dispatcher", partial(Quiet, poll=60.0))
    return found


@pytest.fixture
async def hot(world: World, claims: list[int]) -> AsyncIterator[Delivery]:
    """A delivery service whose first claim is over."""
    async with world.serving() as service:
        await service.create_channel()
        await until(lambda: claims)
        yield service


async def lanes(world: World) -> list[tuple[int, int, bool]]:
    """Fence, what is pending, and whether it is leased."""
    connection = await asyncpg.connect(world.settings().database_url)
    try:
        rows = await connection.fetch("SELECT fence, pending, lease_until IS NOT NULL FROM delivery.lanes")
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


async def test_what_finds_its_lane_idle_is_sent_without_a_claim(hot: Delivery, world: World, claims: list[int]) -> None:
    for number in range(3):
        answer = await hot.client.send_message(message(f"text {number}"))
        sent = await hot.until_state(answer.delivery_id, SENT)
        (part,) = sent.parts
        assert (len(part.attempts), part.possibly_duplicate) == (1, False)
    assert world.receiver.texts() == ["text 0", "text 1", "text 2"]
    assert claims == [0]
    assert await lanes(world) == [(3, 0, False)]
    await until(lambda: len(world.dialog.told) == 3)


async def test_what_finds_its_lane_busy_waits_its_turn_and_gives_back_what_it_had_in_hand(
    hot: Delivery, world: World
) -> None:
    release = asyncio.Event()

    async def answer(call: Call) -> web.StreamResponse | None:
        await release.wait()
        return world.receiver.ok()

    world.receiver.answer = answer
    first = await hot.client.send_message(message("first"))
    await until(lambda: world.receiver.calls)
    second = await hot.client.send_message(message("second"))
    assert (await hot.get(first.delivery_id)).parts[0].state == STARTED
    assert (await hot.get(second.delivery_id)).parts[0].state == PENDING
    assert InHand.taken == 1
    release.set()
    await hot.until_state(second.delivery_id, SENT)
    assert world.receiver.texts() == ["first", "second"]


async def test_all_of_a_lane_that_is_stored_at_once_is_sent_in_its_order(
    hot: Delivery, world: World, claims: list[int]
) -> None:
    long = "word " * 1500
    items = [
        delivery_pb2.BatchSendMessageRequest.Item(request=message(text, chat=chat))
        for text, chat in [("1", "a"), (long, "a"), ("3", "a"), ("other", "b")]
    ]
    response = await hot.client.batch_send_message(delivery_pb2.BatchSendMessageRequest(items=items))
    for result in response.results:
        await hot.until_state(result.response.delivery_id, SENT)
    texts = world.receiver.texts("a")
    assert (texts[0], texts[-1], len(texts) > 3) == ("1", "3", True)
    assert world.receiver.texts("b") == ["other"]
    assert claims == [0]


async def test_a_repeated_call_sends_nothing_again(hot: Delivery, world: World) -> None:
    request = message("text")
    answers = [await hot.client.send_message(request) for _ in range(3)]
    assert len({answer.delivery_id for answer in answers}) == 1
    await hot.until_state(answers[0].delivery_id, SENT)
    assert world.receiver.texts() == ["text"]
    assert InHand.taken == 1


async def test_a_call_that_fails_is_tried_again_as_any_other(hot: Delivery, world: World, claims: list[int]) -> None:
    world.receiver.fail(500, times=2)
    answer = await hot.client.send_message(message("text"))
    sent = await hot.until_state(answer.delivery_id, SENT)
    assert [attempt.http_status for attempt in sent.parts[0].attempts] == [500, 500, 200]
    assert sum(claims) == 2


async def test_a_call_that_fails_for_good_leaves_a_dead_letter(hot: Delivery, world: World) -> None:
    world.receiver.fail(400)
    dead = await hot.client.send_message(message("bad"))
    await hot.until_state(dead.delivery_id, DEAD)
    await until(lambda: world.dialog.states(dead.delivery_id) == ["DEAD"])


async def test_after_a_death_before_the_call_nobody_knows_whether_it_was_made(
    world: World, claims: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease runs out, and the attempt that was noted as started is one of unknown outcome."""

    class Dead(Quiet):
        def adopt(self, item: Claimed, since: float, *, asks: bool = False) -> None:
            self.give_back((item.lease.tenant_id, item.lease.share))

    monkeypatch.setattr(wiring, "Dispatcher", partial(Dead, poll=60.0))
    async with world.serving() as service:
        await service.create_channel()
        await until(lambda: claims)
        answer = await service.client.send_message(message("text"))
        assert (await service.get(answer.delivery_id)).parts[0].state == STARTED
    assert await lanes(world) == [(1, 1, True)]
    monkeypatch.setattr(wiring, "Dispatcher", Dispatcher)
    await leases_run_out(world)
    async with world.serving() as service:
        await service.until_state(answer.delivery_id, UNKNOWN)
        assert not world.receiver.calls
        sent = await service.until_state(answer.delivery_id, SENT)
    assert world.receiver.texts() == ["text"]
    assert sent.parts[0].possibly_duplicate
    assert len(sent.parts[0].attempts) == 2


async def test_nothing_is_begun_at_once_on_a_channel_whose_calls_fail(world: World, claims: list[int]) -> None:
    world.receiver.fail(500, times=1000)
    async with world.serving(delivery_breaker_failures=1, delivery_breaker_seconds=60.0) as service:
        await service.create_channel()
        await until(lambda: claims)
        failing = await service.client.send_message(message("text"))
        await until(lambda: world.receiver.calls)
        await service.until_state(failing.delivery_id, PENDING)
        later = await service.client.send_message(message("later", chat="later"))
        (part,) = (await service.get(later.delivery_id)).parts
        assert (part.state, len(part.attempts)) == (PENDING, 0)
    assert world.receiver.texts() == ["text"]
