"""CTX-13: the client of a Redis Cluster."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.runtime import redis as module
from services.runtime.errors import to_parley_error
from services.runtime.redis import CONNECTIONS, Client, Script, by_slot, make_redis, node_of, run_ids, subscription
from tests.support.stores import RedisCluster


@pytest.fixture
async def client(redis_cluster: RedisCluster) -> AsyncIterator[Client]:
    client = make_redis(redis_cluster.url, "test")
    yield client
    await client.aclose()


async def test_more_commands_than_connections_wait_their_turn(client: Client, redis_prefix: str) -> None:
    keys = [f"{redis_prefix}:{number}" for number in range(CONNECTIONS * 10)]
    await asyncio.gather(*(client.set(key, number, ex=60) for number, key in enumerate(keys)))
    found = await asyncio.gather(*(client.get(key) for key in keys))
    assert found == [str(number).encode() for number in range(len(keys))]


async def test_keys_are_grouped_by_what_one_command_may_touch(client: Client, redis_url: str) -> None:
    keys = [f"{{{number % 4}}}:{number}" for number in range(8)]
    assert by_slot(client, keys, str) == [[keys[n], keys[n + 4]] for n in range(4)]
    single = make_redis(redis_url, "test")
    assert (by_slot(single, keys, str), by_slot(single, [], str)) == ([keys], [])
    await single.aclose()


async def test_one_of_the_nodes_that_are_named_is_enough(redis_cluster: RedisCluster, redis_prefix: str) -> None:
    one = redis_cluster.masters[1]
    url = f"redis+cluster://:{one.password}@127.0.0.1:1,127.0.0.1:{one.port}"
    client = make_redis(url, "test")
    assert await client.set(redis_prefix, "here", ex=60)
    assert len((await run_ids(client)).split(",")) == 3
    await client.aclose()


async def test_callers_who_give_up_do_not_keep_the_client_from_learning_the_cluster(
    redis_cluster: RedisCluster, redis_prefix: str
) -> None:
    client = make_redis(redis_cluster.url, "test")
    async with asyncio.timeout(30):
        while True:
            try:
                async with asyncio.timeout(0.001):
                    await client.get(redis_prefix)
                    break
            except TimeoutError:
                await asyncio.sleep(0.01)
    await client.aclose()


async def test_with_one_master_away_the_others_serve_and_take_new_scripts(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)
    await asyncio.to_thread(cluster.start)
    client = make_redis(cluster.url, "test")
    try:
        await client.ping()
        dead = f"127.0.0.1:{cluster.masters[0].port}"
        await asyncio.to_thread(cluster.masters[0].kill)
        script = Script(client, "return redis.call('INCR', KEYS[1])")
        keys = [f"key{number}" for number in range(20)]
        outcomes = await asyncio.gather(*(script([key], []) for key in keys), return_exceptions=True)
        assert [outcome == 1 for outcome in outcomes] == [node_of(client, key) != dead for key in keys]
    finally:
        await client.aclose()
        await asyncio.to_thread(cluster.stop)


async def test_a_cluster_that_is_away_is_told_like_a_server_that_is_away_and_comes_back(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)
    client, early = make_redis(cluster.url, "test"), make_redis(cluster.url, "test")
    try:
        with pytest.raises(RedisConnectionError):
            await early.get("key")
        with pytest.raises(RedisConnectionError):
            await subscription(early)
        await asyncio.to_thread(cluster.start)
        assert await client.set("key", "kept")
        for master in cluster.masters:
            await asyncio.to_thread(master.kill)
        for _ in range(3):
            outcomes = await asyncio.gather(*(client.get(f"key{n}") for n in range(20)), return_exceptions=True)
            assert {to_parley_error(each).reason for each in outcomes if isinstance(each, BaseException)} == {
                "STORAGE_UNAVAILABLE"
            }
        await asyncio.to_thread(cluster.start)
        assert await client.get("key") == b"kept"
        assert await early.get("key") == b"kept"
    finally:
        await early.aclose()
        await client.aclose()
        await asyncio.to_thread(cluster.stop)


def test_a_url_may_name_several_nodes() -> None:
    assert module._nodes("rediss+cluster://user:p%40ss@one:1,two:2,three?ssl_cert_reqs=none") == (
        "rediss://user:p%40ss@one:1?ssl_cert_reqs=none",
        [("two", 2), ("three", 6379)],
    )
