"""CTX-2, CTX-3, CTX-5, CTX-8, CTX-9: the context service over gRPC, with real stores."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from parley.context.v1 import context_pb2

from deploy.local.embedded import EmbeddedRedis
from parley_client import errors
from parley_client.channel import connect
from parley_client.context import ContextClient
from parley_client.tokens import TokenSource
from services.context.settings import ContextSettings
from services.context.wiring import build
from services.runtime.redis import make_redis
from services.runtime.service import running
from tests.integration.context.asking import Start, client_data, read, sender, step, until
from tests.support.stores import every_redis


async def test_a_person_is_one_contact_in_all_conversations(start: Start) -> None:
    client: ContextClient = await start()
    first = await client.get_context(read(str(uuid4()), sender("551", "996555123456")))
    again = await client.get_context(read(str(uuid4()), sender("551")))
    by_phone = await client.get_context(read(str(uuid4()), sender("other", "+996 555 123456")))
    stranger = await client.get_context(read(str(uuid4()), sender("552")))
    assert first.contact_id == again.contact_id == by_phone.contact_id != stranger.contact_id
    assert first.version == 0


async def test_the_same_new_person_seen_at_once_is_one_contact(start: Start) -> None:
    clients = [await start(), await start()]
    reads = [client.get_context(read(str(uuid4()), sender("551"))) for client in clients for _ in range(20)]
    assert len({answer.contact_id for answer in await asyncio.gather(*reads)}) == 1


async def test_a_new_person_who_comes_twice_in_one_batch_is_one_contact_by_every_identity(start: Start) -> None:
    client = await start()
    people = [sender("551"), sender("551", phone="+996555123456"), sender("552", phone="+996555123456")]
    batch = context_pb2.BatchGetContextRequest()
    for who in people:
        batch.items.add().request.CopyFrom(read(str(uuid4()), who))
    first = [result.response.contact_id for result in (await client.batch_get_context(batch)).results]
    again = [(await client.get_context(read(str(uuid4()), who))).contact_id for who in people]
    assert len({*first, *again}) == 1


async def test_what_was_saved_is_read_with_its_version(start: Start) -> None:
    client: ContextClient = await start()
    conversation = str(uuid4())
    contact = (await client.get_context(read(conversation, sender()))).contact_id
    saved = await client.save_context(step(conversation, contact, "waiting_phone"))
    answer = await client.get_context(read(conversation, sender(), min_version=saved.version))
    assert (answer.version, answer.snapshot.dialog.step) == (1, "waiting_phone")
    assert answer.level == context_pb2.CACHE_LEVEL_MEMORY


async def test_answers_say_how_long_they_hold(start: Start) -> None:
    client = await start()
    conversation = await client_data("Ada", client)
    answer = await client.get_context(read(conversation, sender()))
    assert (answer.version, answer.contact_version) == (1, 1)
    assert 86_300 < answer.expires_in.ToSeconds() <= 86_400
    request = step(conversation, answer.contact_id, "two")
    request.dialog_ttl.FromSeconds(90)
    saved = await client.save_context(request)
    assert 60 < saved.expires_in.ToMilliseconds() / 1000 <= 90
    assert not (await client.save_context(request)).HasField("expires_in")


async def test_a_repeated_request_id_saves_once(start: Start) -> None:
    client: ContextClient = await start()
    conversation, contact = str(uuid4()), str(uuid4())
    first = await client.save_context(step(conversation, contact, "one", request_id="t/0"))
    other = await client.save_context(step(conversation, contact, "two", request_id="t/1"))
    replay = await client.save_context(step(conversation, contact, "one", request_id="t/0"))
    answer = await client.get_context(read(conversation))
    assert (first.version, other.version, replay.version) == (1, 2, 1)
    assert (replay.replayed, answer.snapshot.dialog.step) == (True, "two")


async def test_an_expected_version_that_has_passed_is_a_conflict(start: Start) -> None:
    client: ContextClient = await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await client.save_context(step(conversation, contact, "one", expected_version=0))
    with pytest.raises(errors.Aborted) as caught:
        await client.save_context(step(conversation, contact, "two", expected_version=0))
    assert caught.value.reason == "VERSION_MISMATCH"


@every_redis
async def test_two_processes_saving_at_once_lose_nothing(start: Start) -> None:
    clients = [await start(), await start()]
    conversation, contact = str(uuid4()), str(uuid4())

    async def add(number: int) -> None:
        entry = context_pb2.HistoryEntry(role=context_pb2.ROLE_USER, text=str(number))
        await clients[number % 2].save_context(
            context_pb2.SaveContextRequest(
                tenant_id="demo",
                conversation_id=conversation,
                contact_id=contact,
                request_id=f"r{number}",
                append_messages=[entry],
            )
        )

    for start_at in range(0, 40, 4):
        await asyncio.gather(*(add(number) for number in range(start_at, start_at + 4)))
    answer = await clients[0].get_context(read(conversation, min_version=40))
    assert sorted(int(entry.text) for entry in answer.snapshot.messages.entries) == list(range(40))
    assert answer.version == 40


@every_redis
async def test_a_save_in_one_process_is_seen_in_the_memory_of_the_other(start: Start) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await here.save_context(step(conversation, contact, "one"))
    await there.get_context(read(conversation))
    assert (await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_MEMORY
    await here.save_context(step(conversation, contact, "two"))

    async def seen() -> bool:
        return bool((await there.get_context(read(conversation))).snapshot.dialog.step == "two")

    await until(seen)


@pytest.mark.parametrize("garbage", [b"\xff", b"", b"x d:demo/1", b"1 q:demo/1", b"1 d:demo", b"1 d:demo/no-uuid"])
async def test_ctx_5_a_notice_that_cannot_be_read_ends_nothing_and_nothing_stale_is_served(
    start: Start, redis_url: str, redis_prefix: str, garbage: bytes
) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await here.save_context(step(conversation, contact, "one"))
    await there.get_context(read(conversation))
    async with Redis.from_url(redis_url) as redis:
        assert await redis.publish(f"{redis_prefix}:context:changed", garbage) == 2
    await here.save_context(step(conversation, contact, "two"))

    async def seen() -> bool:
        return bool((await there.get_context(read(conversation))).snapshot.dialog.step == "two")

    await until(seen)
    assert (await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_MEMORY


async def test_the_version_asked_for_is_given_even_before_the_invalidation(start: Start) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    for number in range(1, 30):
        saved = await here.save_context(step(conversation, contact, f"s{number}"))
        answer = await there.get_context(read(conversation, min_version=saved.version))
        assert answer.snapshot.dialog.step == f"s{number}"


@every_redis
async def test_a_publication_that_nobody_understands_ends_nothing(
    start: Start, redis_url: str, redis_prefix: str
) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await here.save_context(step(conversation, contact, "one"))
    await there.get_context(read(conversation))
    async with make_redis(redis_url, "anybody") as anybody:
        for publication in (
            b"\xff",
            b"nonsense",
            b"1 x:demo/1",
            b"one d:demo/" + conversation.encode(),
            b"1 d:demo/no",
        ):
            await anybody.publish(f"{redis_prefix}:context:changed", publication)
    await here.save_context(step(conversation, contact, "two"))

    async def seen() -> bool:
        answer = await there.get_context(read(conversation))
        return bool(answer.snapshot.dialog.step == "two" and answer.level == context_pb2.CACHE_LEVEL_MEMORY)

    await until(seen)


@every_redis
async def test_a_batch_is_read_from_redis_wherever_its_keys_lie(start: Start) -> None:
    """CTX-13: on a cluster they lie in slots of all masters."""
    here, there = await start(), await start()
    people = [(str(uuid4()), str(uuid4())) for _ in range(40)]
    saves = context_pb2.BatchSaveContextRequest()
    for conversation, contact in people:
        saves.items.add().request.CopyFrom(step(conversation, contact, conversation))
    assert not any(result.HasField("error") for result in (await here.batch_save_context(saves)).results)
    reads = context_pb2.BatchGetContextRequest()
    for conversation, _ in people:
        reads.items.add().request.CopyFrom(read(conversation))
    answers = [result.response for result in (await there.batch_get_context(reads)).results]
    assert [answer.snapshot.dialog.step for answer in answers] == [conversation for conversation, _ in people]
    assert {answer.level for answer in answers} == {context_pb2.CACHE_LEVEL_REDIS}


async def test_another_process_reads_from_redis_first(start: Start) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await here.save_context(step(conversation, contact, "one"))
    assert (await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_REDIS


@every_redis
async def test_after_invalidation_everybody_reads_postgres(start: Start, postgres_url: str) -> None:
    here, there = await start(), await start()
    conversation, contact = str(uuid4()), str(uuid4())
    await here.save_context(step(conversation, contact, "one"))
    await there.get_context(read(conversation))
    request = context_pb2.InvalidateContextRequest(
        tenant_id="demo", conversation_id=conversation, request_id=str(uuid4())
    )
    await here.invalidate_context(request)

    async def from_postgres() -> bool:
        return bool((await there.get_context(read(conversation))).level == context_pb2.CACHE_LEVEL_POSTGRES)

    assert (await here.get_context(read(conversation))).snapshot.dialog.step == "one"
    await here.invalidate_context(request)
    await until(from_postgres)


@every_redis
async def test_client_data_is_saved_with_the_dialog_or_not_at_all(start: Start) -> None:
    client: ContextClient = await start()
    conversation = str(uuid4())
    contact = (await client.get_context(read(conversation, sender()))).contact_id
    request = step(conversation, contact, "one")
    request.update_mask.paths.append("client.name")
    request.changes.client.name = "Айгуль"
    await client.save_context(request)
    elsewhere = await client.get_context(read(str(uuid4()), sender()))
    assert elsewhere.snapshot.client.name == "Айгуль"
    assert not elsewhere.snapshot.HasField("dialog")


async def test_another_tenants_context_cannot_be_read(start: Start) -> None:
    mine, theirs = await start(), await start(tenants=("other",))
    conversation, contact = str(uuid4()), str(uuid4())
    await mine.save_context(step(conversation, contact, "one"))
    with pytest.raises(errors.PermissionDenied) as caught:
        await theirs.get_context(read(conversation))
    assert caught.value.reason == "TENANT_NOT_ALLOWED"
    request = read(conversation)
    request.tenant_id = "other"
    answer = await theirs.get_context(request)
    assert (answer.contact_id, answer.version) == ("", 0)


async def test_nothing_is_stored_in_clear(start: Start, postgres_url: str, redis_server: EmbeddedRedis) -> None:
    client: ContextClient = await start()
    conversation = str(uuid4())
    contact = (await client.get_context(read(conversation, sender("551", "+996555987654")))).contact_id
    await client.save_context(step(conversation, contact, "secret-step-name"))
    connection = await asyncpg.connect(postgres_url)
    try:
        stored = [
            str(bytes(row[0]))
            for table, column in (("conversations", "data"), ("identities", "value"), ("identities", "digest"))
            for row in await connection.fetch(f"SELECT {column} FROM context.{table}")
        ]
    finally:
        await connection.close()
    assert stored
    assert not [text for text in stored if "secret-step-name" in text or "996555987654" in text]


async def test_bad_fields_are_named(start: Start) -> None:
    client: ContextClient = await start()
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.get_context(context_pb2.GetContextRequest(tenant_id="demo", conversation_id="no"))
    assert [name for name, _ in caught.value.fields] == ["conversation_id"]
    request = step(str(uuid4()), str(uuid4()), "one")
    request.update_mask.paths[:] = ["dialog.nothing"]
    with pytest.raises(errors.InvalidArgument) as wrong_mask:
        await client.save_context(request)
    assert wrong_mask.value.reason == "INVALID_UPDATE_MASK"


async def test_stats_count_the_levels(make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]) -> None:
    settings = make_settings(ContextSettings)
    async with running("context", settings, build) as service:
        async with connect(service.address, audience="context", tokens=tokens_as("operator")) as connection:
            client = ContextClient(connection)
            conversation = str(uuid4())
            await client.save_context(step(conversation, str(uuid4()), "one"))
            for _ in range(3):
                await client.get_context(read(conversation))
            stats = await client.get_stats(context_pb2.GetStatsRequest())
    memory = next(level for level in stats.levels if level.level == context_pb2.CACHE_LEVEL_MEMORY)
    assert memory.hits >= 3
    assert stats.read_p50_micros > 0
