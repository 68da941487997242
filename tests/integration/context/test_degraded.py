"""CTX-5, CTX-6: a store is away, or holds what nobody can read."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis

from parley.context.v1 import context_pb2

from deploy.local.embedded import EmbeddedPostgres
from parley_client import errors
from parley_client.channel import connect
from parley_client.context import ContextClient
from parley_client.tokens import TokenSource
from services.context.settings import ContextSettings
from services.context.wiring import build
from services.runtime.redis import make_redis
from services.runtime.service import running
from tests.integration.context.asking import Start, client_data, own_redis, read, sender, step, until


async def test_without_redis_reads_and_saves_go_on_and_nothing_stale_is_served(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with own_redis(tmp_path_factory) as redis:
        here, there = await start(redis_url=redis.url), await start(redis_url=redis.url)
        conversation, contact = str(uuid4()), str(uuid4())
        await here.save_context(step(conversation, contact, "one"))
        await there.get_context(read(conversation))
        await asyncio.to_thread(redis.stop)
        await here.save_context(step(conversation, contact, "two"))

        async def fresh() -> bool:
            return bool((await there.get_context(read(conversation))).snapshot.dialog.step == "two")

        await until(fresh)
        await here.save_context(step(conversation, contact, "three"))
        assert (await there.get_context(read(conversation))).snapshot.dialog.step == "three"
        await asyncio.to_thread(redis.start)

        async def heard() -> bool:
            await here.save_context(step(conversation, contact, "four"))
            first = await there.get_context(read(conversation))
            second = await there.get_context(read(conversation))
            return bool(first.snapshot.dialog.step == "four" and second.level == context_pb2.CACHE_LEVEL_MEMORY)

        await until(heard)


@pytest.mark.parametrize("missed", ["save", "invalidation"])
async def test_what_a_slow_redis_missed_is_made_up_for_though_the_subscription_never_broke(
    missed: str, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with own_redis(tmp_path_factory) as redis, Redis.from_url(redis.url) as operator:
        here = await start(redis_url=redis.url, context_redis_timeout_seconds=0.05)
        there = await start(redis_url=redis.url)
        conversation, contact = str(uuid4()), str(uuid4())
        await here.save_context(step(conversation, contact, "one"))

        async def in_memory() -> bool:
            return bool((await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_MEMORY)

        await until(in_memory)
        # Writes and announcements wait, pings of subscriptions are answered.
        await operator.client_pause(60_000, all=False)
        if missed == "save":
            await here.save_context(step(conversation, contact, "two"))
        else:
            await here.invalidate_context(
                context_pb2.InvalidateContextRequest(
                    tenant_id="demo", conversation_id=conversation, request_id=str(uuid4())
                )
            )
        assert await in_memory()
        await operator.client_unpause()

        async def from_postgres() -> bool:
            return bool((await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_POSTGRES)

        await until(from_postgres)  # memory would keep it for five minutes
        expected = "two" if missed == "save" else "one"
        assert (await there.get_context(read(conversation))).snapshot.dialog.step == expected


@pytest.mark.parametrize("first", ["redis", "context"])
async def test_a_save_that_redis_missed_is_never_read_stale_though_its_process_ended(
    first: str,
    start: Start,
    make_settings: Callable[..., Any],
    tokens_as: Callable[..., TokenSource],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """CTX-5: a contact has no version to ask for, so only this keeps it from being stale for a day."""
    async with own_redis(tmp_path_factory) as redis:
        settings = make_settings(ContextSettings, redis_url=redis.url, context_redis_timeout_seconds=5.0)
        async with running("context", settings, build) as service:
            async with connect(service.address, audience="context", tokens=tokens_as("dialog")) as connection:
                client = ContextClient(connection)
                conversation = await client_data("old", client)
                await asyncio.to_thread(redis.stop)
                await client_data("new", client)
        if first == "redis":
            await asyncio.to_thread(redis.start)
        after = await start(redis_url=redis.url)
        for _ in range(3):
            assert (await after.get_context(read(conversation))).snapshot.client.name == "new"
        if first == "context":
            await asyncio.to_thread(redis.start)

        async def from_memory() -> bool:
            answer = await after.get_context(read(conversation))
            assert answer.snapshot.client.name == "new"
            return bool(answer.level == context_pb2.CACHE_LEVEL_MEMORY)

        await until(from_memory)
        assert (await (await start(redis_url=redis.url)).get_context(read(conversation))).snapshot.client.name == "new"


async def test_what_redis_missed_of_a_process_that_ended_is_made_up_for_by_the_others(
    start: Start,
    make_settings: Callable[..., Any],
    tokens_as: Callable[..., TokenSource],
    tmp_path_factory: pytest.TempPathFactory,
    postgres_url: str,
) -> None:
    async with own_redis(tmp_path_factory) as redis, Redis.from_url(redis.url) as operator:
        there = await start(redis_url=redis.url)
        settings = make_settings(ContextSettings, redis_url=redis.url)
        async with running("context", settings, build) as service:
            async with connect(service.address, audience="context", tokens=tokens_as("dialog")) as connection:
                here = ContextClient(connection)
                conversation = await client_data("old", here)
                await there.get_context(read(conversation))
                await operator.client_pause(60_000, all=False)
                await client_data("new", here)
        await operator.client_unpause()

        async def seen() -> bool:
            return bool((await there.get_context(read(conversation))).snapshot.client.name == "new")

        await until(seen)
        database = await asyncpg.connect(postgres_url)

        async def made_up() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM context.missed") == 0)

        try:
            await until(made_up)
        finally:
            await database.close()


@pytest.mark.parametrize("redis_url", ["redis_server", "redis_cluster"], indirect=True)
@pytest.mark.parametrize("bad", ["changed", "cut", "no version", "long version", "newer", "empty", "other type"])
async def test_a_value_in_redis_that_does_not_open_is_a_miss_and_goes(
    bad: str, start: Start, redis_url: str, redis_prefix: str
) -> None:
    here = await start()
    conversations = [str(uuid4()) for _ in range(3)]
    for conversation in conversations:
        await here.save_context(step(conversation, str(uuid4()), "one"))
    key = f"{redis_prefix}:context:d:{{demo/{conversations[1]}}}"
    async with make_redis(redis_url, "anybody") as anybody:
        value = await anybody.get(key)
        assert isinstance(value, bytes)
        if bad == "other type":
            await anybody.delete(key)
            await anybody.hset(key, "used", "1")
        else:
            wrong = {
                "changed": value[:-1] + bytes([value[-1] ^ 1]),
                "cut": value[:40],
                "no version": b"nonsense",
                "long version": b"9" * 5000 + b" x",
                "newer": b"999 x",
                "empty": b"",
            }
            await anybody.set(key, wrong[bad])
        there = await start(caller="operator")
        batch = context_pb2.BatchGetContextRequest()
        for conversation in conversations:
            batch.items.add().request.CopyFrom(read(conversation))
        answers = (await there.batch_get_context(batch)).results
        assert [answer.response.snapshot.dialog.step for answer in answers] == ["one"] * 3
        levels = [answer.response.level for answer in answers]
        redis, postgres = context_pb2.CACHE_LEVEL_REDIS, context_pb2.CACHE_LEVEL_POSTGRES
        assert levels == [redis, postgres, redis]
        stats = await there.get_stats(context_pb2.GetStatsRequest())
        unreadable = {level.level: level.unreadable for level in stats.levels}
        assert unreadable[redis] == (0 if bad == "other type" else 1)
        third = await start()
        assert (await third.get_context(read(conversations[1]))).level == redis


async def test_a_stored_row_that_does_not_open_fails_alone(start: Start, postgres_url: str) -> None:
    here = await start()
    conversations = [str(uuid4()) for _ in range(3)]
    for conversation in conversations:
        await here.save_context(step(conversation, str(uuid4()), "one"))
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(
            "UPDATE context.conversations SET data = 'x' WHERE conversation_id = $1", UUID(conversations[1])
        )
    finally:
        await connection.close()
    there = await start(redis_prefix="nothing-cached")
    batch = context_pb2.BatchGetContextRequest()
    for conversation in conversations:
        batch.items.add().request.CopyFrom(read(conversation))
    results = (await there.batch_get_context(batch)).results
    assert [result.response.snapshot.dialog.step for result in results] == ["one", "", "one"]
    assert results[1].error.code == grpc.StatusCode.INTERNAL.value[0]


async def test_with_postgres_away_what_is_cached_is_read(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """CTX-6: memory in one process, Redis in the other."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("own-postgres") / "data", durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        here, there = await start(database_url=postgres.url), await start(database_url=postgres.url)
        conversation = await client_data("Anna", here)
        await here.get_context(read(conversation))
        await asyncio.to_thread(postgres.kill)
        for client, level in (
            (here, context_pb2.CACHE_LEVEL_MEMORY),
            (there, context_pb2.CACHE_LEVEL_REDIS),
            (there, context_pb2.CACHE_LEVEL_MEMORY),
        ):
            batch = context_pb2.BatchGetContextRequest()
            for one in (conversation, str(uuid4())):
                batch.items.add().request.CopyFrom(read(one, sender(), min_version=int(one == conversation)))
            hit, miss = (await client.batch_get_context(batch)).results
            assert (hit.response.snapshot.client.name, hit.response.level) == ("Anna", level)
            assert errors.from_status(miss.error).reason == "STORAGE_UNAVAILABLE"
    finally:
        await asyncio.to_thread(postgres.kill)


async def test_a_new_conversation_and_its_contact_may_be_saved_by_two_processes_at_once(start: Start) -> None:
    clients = [await start(), await start()]
    for _ in range(5):
        conversation, contact = str(uuid4()), str(uuid4())
        saves = []
        for number in range(6):
            request = step(conversation, contact, f"s{number}")
            if number % 2:
                request.update_mask.paths.append("client.name")
                request.changes.client.name = f"n{number}"
            saves.append(clients[number % 2].save_context(request))
        answers = await asyncio.gather(*saves)
        assert sorted(answer.version for answer in answers) == [1, 2, 3, 4, 5, 6]
