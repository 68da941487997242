"""Wake-ups reach other processes, cost little, and survive Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from deploy.local.embedded import EmbeddedRedis
from services.runtime.redis import make_redis
from services.runtime.wakeups import Wakeups
from tests.support.stores import every_redis


class Listener:
    def __init__(self, wakeups: Wakeups) -> None:
        self.publications: list[list[str]] = []
        self.gaps = 0
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(wakeups.listen(self._hear, self._gap)(self.stop))

    def _hear(self, items: Sequence[str]) -> None:
        self.publications.append(list(items))

    def _gap(self) -> None:
        self.gaps += 1

    @property
    def heard(self) -> set[str]:
        return {item for items in self.publications for item in items}


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def wakeups(redis_url: str, redis_prefix: str) -> AsyncIterator[Wakeups]:
    redis = make_redis(redis_url, "test")
    yield Wakeups(redis, redis_prefix, "lanes")
    await redis.aclose()


@pytest.fixture
async def listener(wakeups: Wakeups) -> AsyncIterator[Listener]:
    listener = Listener(wakeups)
    await until(lambda: listener.gaps)
    yield listener
    listener.stop.set()
    async with asyncio.timeout(30):
        await listener.task


@every_redis
async def test_a_wake_up_is_heard(wakeups: Wakeups, listener: Listener) -> None:
    wakeups.publish()
    await until(lambda: listener.publications)
    assert listener.publications == [[""]]


async def test_what_cannot_be_read_is_skipped(
    wakeups: Wakeups, listener: Listener, redis_url: str, redis_prefix: str
) -> None:
    redis = make_redis(redis_url, "test")
    for garbage in (b"\xff\xfe", b"good\n\xc3\x28", b"", b"\x00" * 70_000):
        await redis.publish(f"{redis_prefix}:wake:lanes", garbage)
    wakeups.publish("after")
    await until(lambda: "after" in listener.heard)
    await redis.aclose()


@every_redis
async def test_many_at_once_go_out_together(wakeups: Wakeups, listener: Listener) -> None:
    for i in range(100):
        wakeups.publish(f"item {i % 50}")
    await until(lambda: len(listener.heard) == 50)
    assert len(listener.publications) <= 2


async def test_topics_and_prefixes_are_kept_apart(
    listener: Listener, wakeups: Wakeups, redis_url: str, redis_prefix: str
) -> None:
    redis = make_redis(redis_url, "test")
    Wakeups(redis, redis_prefix, "other").publish("other topic")
    Wakeups(redis, f"{redis_prefix}2", "lanes").publish("other stack")
    wakeups.publish("mine")
    await until(lambda: listener.publications)
    assert listener.heard == {"mine"}
    await redis.aclose()


@every_redis
async def test_a_publication_that_nobody_understands_ends_nothing(
    wakeups: Wakeups, listener: Listener, redis_url: str, redis_prefix: str
) -> None:
    redis = make_redis(redis_url, "test")
    hear = listener._hear

    def strict(items: Sequence[str]) -> None:
        if "nonsense" in items:
            raise ValueError("not understood")
        hear(items)

    listener.stop.set()
    await listener.task
    listener.stop, listener._hear = asyncio.Event(), strict  # type: ignore[method-assign]
    listener.task = asyncio.create_task(wakeups.listen(strict, listener._gap)(listener.stop))
    await until(lambda: listener.gaps == 2)
    for publication in (b"\xff\xfe", b"nonsense", b"heard"):
        await redis.publish(f"{redis_prefix}:wake:lanes", publication)
    await until(lambda: "heard" in listener.heard)
    assert listener.gaps == 2
    await redis.aclose()


async def test_redis_away_neither_blocks_nor_raises_and_the_gap_is_reported(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis" / "data")
    await asyncio.to_thread(server.start)
    redis = make_redis(server.url, "test")
    wakeups = Wakeups(redis, "t", "lanes")
    listener = Listener(wakeups)
    try:
        await until(lambda: listener.gaps == 1)
        await asyncio.to_thread(server.kill)
        wakeups.publish("lost")
        await asyncio.to_thread(server.start)
        await until(lambda: listener.gaps == 2)
        wakeups.publish("heard")
        await until(lambda: "heard" in listener.heard)
    finally:
        listener.stop.set()
        await listener.task
        await redis.aclose()
        await asyncio.to_thread(server.kill)


async def test_listening_begins_when_redis_comes_and_ends_when_told(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis" / "data")
    redis = make_redis(server.url, "test")
    early, waiting = Listener(Wakeups(redis, "t", "a")), Listener(Wakeups(redis, "t", "a"))
    await asyncio.sleep(0)
    early.stop.set()
    async with asyncio.timeout(30):
        await early.task
    await asyncio.to_thread(server.start)
    try:
        await until(lambda: waiting.gaps == 1)
    finally:
        waiting.stop.set()
        await waiting.task
        await redis.aclose()
        await asyncio.to_thread(server.kill)
