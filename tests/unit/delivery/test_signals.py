"""Typing indicators and previews: best effort, bounded, and never in the way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.providers.base import Signal
from services.delivery.providers.chat2desk import Chat2DeskSettings
from services.delivery.usecases import signals as module
from services.delivery.usecases.signals import AT_ONCE, LASTS, SPARED, WAITING, Signals

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def channel(key: int = 1) -> Channel:
    return Channel(
        key, "acme", f"c{key}", ProviderKind.CHAT2DESK, "bot", Chat2DeskSettings(), True, "", {}, 1, NOW, NOW
    )


@dataclass
class World:
    """Channels, a provider that can be slow, and what stands in a signal's way."""

    channels: dict[int, Channel] = field(default_factory=lambda: {key: channel(key) for key in range(1, 31)})
    sent: list[tuple[int, Signal]] = field(default_factory=list)
    taken: bool = True
    error: Exception | None = None
    let: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0
    shows: bool = True
    open: bool = True
    busy: bool = False
    time: float = 1000.0

    def by_id(self, channel_id: str) -> Channel | None:
        return next((found for found in self.channels.values() if found.channel_id == channel_id), None)

    def by_key(self, key: int) -> Channel | None:
        return self.channels.get(key)

    async def refresh(self) -> None:
        raise AssertionError("a signal waits for nothing")

    async def send(self, signal: Signal, to: Channel) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.let.wait()
        finally:
            self.at_once -= 1
        if self.error:
            raise self.error
        self.sent.append((to.key, signal))
        return self.taken


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    found = World()
    found.let.set()
    return found


@pytest.fixture
async def signals(world: World) -> AsyncIterator[Signals]:
    made = Signals(
        world,
        world.send,
        shows=lambda _: world.shows,
        is_open=lambda _: world.open,
        busy=lambda: world.busy,
        time=lambda: world.time,
    )
    yield made
    await made.close()


async def settled(signals: Signals) -> None:
    """Returns when nothing waits and nothing is under way."""
    async with asyncio.timeout(30):
        while signals._waiting:
            await asyncio.sleep(0)


async def test_a_signal_is_handed_to_the_provider_once(world: World, signals: Signals) -> None:
    assert signals.offer(channel(), Signal("77"))
    assert signals.offer(channel(2), Signal("77", "Здрав"))
    await settled(signals)
    assert sorted(world.sent) == [(1, Signal("77")), (2, Signal("77", "Здрав"))]
    assert signals.outcomes == {"sent": 2}


async def test_a_channel_has_one_call_under_way_and_a_process_a_few(world: World, signals: Signals) -> None:
    world.let.clear()
    offered = [signals.offer(channel(key), Signal(chat)) for chat in "ab" for key in range(1, AT_ONCE + 5)]
    await asyncio.sleep(0)
    assert world.most_at_once == AT_ONCE
    assert offered.count(False) == signals.outcomes["crowded"] == 8, "four channels more, with two signals each"
    world.let.set()
    await settled(signals)
    assert len(world.sent) == 2 * AT_ONCE
    assert world.most_at_once == AT_ONCE


async def test_a_later_signal_of_a_chat_takes_the_place_of_the_one_that_waits(world: World, signals: Signals) -> None:
    world.let.clear()
    for text in ("", "О", "От", "Отв"):
        assert signals.offer(channel(), Signal("77", text))
        await asyncio.sleep(0)
    world.let.set()
    await settled(signals)
    assert [signal.preview for _, signal in world.sent] == ["", "Отв"], "the first was under way already"
    assert signals.outcomes == {"sent": 2, "replaced": 2}


async def test_what_waits_for_a_channel_is_bounded(world: World, signals: Signals) -> None:
    world.let.clear()
    for number in range(1000):
        signals.offer(channel(), Signal(str(number)))
    assert signals.outcomes == {"crowded": 1000 - WAITING}
    world.let.set()
    await settled(signals)
    assert len(world.sent) == WAITING


async def test_a_signal_that_waited_too_long_says_nothing_any_more(world: World, signals: Signals) -> None:
    world.let.clear()
    signals.offer(channel(), Signal("77"))
    await asyncio.sleep(0)
    signals.offer(channel(), Signal("78"))
    world.time += LASTS + 1
    world.let.set()
    await settled(signals)
    assert [signal.chat_id for _, signal in world.sent] == ["77"]
    assert signals.outcomes == {"sent": 1, "late": 1}


@pytest.mark.parametrize("how", ["refuses", "fails", "hangs"])
async def test_a_provider_that_does_not_take_one_is_spared_for_a_while(
    world: World, signals: Signals, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "hangs":
        monkeypatch.setattr(module, "PATIENCE", 0.01)
        world.let.clear()
    world.taken = how != "refuses"
    world.error = ValueError("a fault of the adapter") if how == "fails" else None
    signals.offer(channel(), Signal("77"))
    signals.offer(channel(), Signal("78"))
    await settled(signals)
    assert signals.outcomes == {"failed": 1, "spared": 1}
    assert not signals.offer(channel(), Signal("77"))
    assert signals.offer(channel(2), Signal("77")), "other channels are not"
    world.time += SPARED + 1
    world.taken, world.error = True, None
    world.let.set()
    assert signals.offer(channel(), Signal("77"))
    await settled(signals)


async def test_what_stands_in_its_way_drops_it(world: World, signals: Signals) -> None:
    assert not signals.offer(None, Signal("77"))
    assert not signals.offer(replace(channel(), enabled=False), Signal("77"))
    world.shows = False
    assert not signals.offer(channel(), Signal("77"))
    world.shows, world.open = True, False
    assert not signals.offer(channel(), Signal("77"))
    world.open, world.busy = True, True
    assert not signals.offer(channel(), Signal("77"))
    assert signals.outcomes == {"off": 2, "unsupported": 1, "spared": 1, "busy": 1}
    assert world.sent == []


async def test_what_waits_is_looked_at_again_before_its_call(world: World, signals: Signals) -> None:
    world.let.clear()
    signals.offer(channel(), Signal("77"))
    await asyncio.sleep(0)
    signals.offer(channel(), Signal("78"))
    del world.channels[1]
    world.let.set()
    await settled(signals)
    assert [signal.chat_id for _, signal in world.sent] == ["77"]
    assert signals.outcomes == {"sent": 1, "off": 1}


async def test_closing_drops_what_waits(world: World, signals: Signals) -> None:
    world.let.clear()
    signals.offer(channel(), Signal("77"))
    await asyncio.sleep(0)
    await signals.close()
    assert world.at_once == 0
    assert world.sent == []
