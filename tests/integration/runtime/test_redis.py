"""The Redis client waits for a free connection, fails fast, and recovers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.local.embedded import EmbeddedRedis
from services.runtime.errors import to_parley_error
from services.runtime.redis import CONNECTIONS, make_redis


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = make_redis(redis_url, "test")
    assert isinstance(client, Redis)
    yield client
    await client.aclose()


async def connections(redis: Redis) -> int:
    """Connections that this client has open."""
    return sum(each["name"] == "parley-test" for each in await redis.client_list())


async def blocked(observer: Redis) -> int:
    """Connections of the client under test that wait for a list to fill."""
    return sum(each["name"] == "parley-test" and "b" in each["flags"] for each in await observer.client_list())


async def test_more_commands_than_connections_wait_their_turn(redis: Redis, redis_prefix: str) -> None:
    keys = [f"{redis_prefix}:{i}" for i in range(CONNECTIONS * 10)]
    await asyncio.gather(*(redis.set(key, i, ex=60) for i, key in enumerate(keys)))
    assert await asyncio.gather(*(redis.get(key) for key in keys)) == [str(i).encode() for i in range(len(keys))]
    assert await connections(redis) <= CONNECTIONS


async def test_a_cancelled_command_gives_its_place_back(redis: Redis, redis_url: str, redis_prefix: str) -> None:
    await redis.ping()
    observer = make_redis(redis_url, "observer")
    assert isinstance(observer, Redis)
    for _ in range(3):
        waiting = [asyncio.ensure_future(redis.blpop([f"{redis_prefix}:none"], 30)) for _ in range(CONNECTIONS * 2)]
        async with asyncio.timeout(30):
            while await blocked(observer) < CONNECTIONS:
                await asyncio.sleep(0.005)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(redis.ping() for _ in range(CONNECTIONS * 2)))
    await observer.aclose()


async def test_while_redis_is_away_commands_fail_at_once_and_afterwards_they_work(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis" / "data")
    await asyncio.to_thread(server.start)
    client = make_redis(server.url, "test")
    try:
        await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))
        await asyncio.to_thread(server.kill)
        for _ in range(2):
            outcomes = await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS * 2)), return_exceptions=True)
            assert {to_parley_error(each).reason for each in outcomes if isinstance(each, BaseException)} == {
                "STORAGE_UNAVAILABLE"
            }
            assert all(isinstance(each, RedisConnectionError) for each in outcomes)
        await asyncio.to_thread(server.start)
        assert all(await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS * 2))))
    finally:
        await client.aclose()
        await asyncio.to_thread(server.kill)


def test_it_says_when_no_address_is_set() -> None:
    with pytest.raises(RuntimeError, match="PARLEY_REDIS_URL"):
        _ = make_redis("", "test")
