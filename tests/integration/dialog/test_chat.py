"""EDGE-5: an answer at once."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.common.v1 import identity_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from parley_client.dialog import DialogClient
from parley_client.errors import (
    AlreadyExists,
    CallError,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import TurnInput, TurnPlan, TurnTools
from services.dialog.postgres.answered import PostgresAnswered
from services.dialog.postgres.reads import PostgresReads
from services.dialog.redis import chats
from services.dialog.redis.chats import RedisChats
from services.dialog.usecases import chat
from tests.integration.dialog.conftest import BOT, TENANT, FakeFlow, World, until


def asking(text: str = "hi there", user: str = "u1", request_id: str = "", **fields: Any) -> dialog_pb2.ChatRequest:
    request = dialog_pb2.ChatRequest(
        tenant_id=TENANT, channel_id="api", bot_id=BOT, request_id=request_id or str(uuid4())
    )
    request.sender.identity.kind = identity_pb2.IDENTITY_KIND_EXTERNAL
    request.sender.identity.value = user
    request.content.text = text
    for name, value in fields.items():
        setattr(request, name, value)
    return request


async def talk(
    world: World, request: dialog_pb2.ChatRequest, *, timeout: float = 60.0, process: int = 0
) -> list[dialog_pb2.ChatResponse]:
    client = DialogClient(world.connection("edge", process=process))
    return [event async for event in client.chat(request, timeout=timeout)]


def shape(events: list[dialog_pb2.ChatResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def test_a_chat_streams_previews_and_ends_with_the_stored_reply(dialog: World) -> None:
    dialog.flow.model = True
    events = await talk(dialog, asking())
    assert shape(events) == ["accepted", "delta", "delta", "final"]
    final = events[-1].final
    assert final.reply == "1: model says hi there"
    assert final.remaining_today == 29
    assert not dialog.delivery.sent
    message = await dialog.message(final.message_id)
    assert message.replies[0].state == dialog_pb2.REPLY_STATE_RETURNED
    assert not message.replies[0].delivery_id


async def test_previews_reach_a_caller_at_another_process(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.start()
    await world.prepare()
    world.flow.model = True
    world.flow.held = asyncio.Event()
    task = asyncio.create_task(talk(world, asking()))
    await until(lambda: _value(world.flow.asked))
    world.flow.held.set()
    assert shape(await task) == ["accepted", "delta", "delta", "final"]


async def test_a_turn_that_another_process_goes_on_with_begins_with_a_reset(world: World) -> None:
    """EDGE-5: also after a graceful restart, which counts no attempt."""
    first, second = FakeFlow(), FakeFlow()
    first.model = second.model = True
    said = asyncio.Event()

    async def says_half(turn: TurnInput, tools: TurnTools) -> TurnPlan:
        async def half() -> Mapping[str, Any]:
            await tools.previews.delta("half of ")
            said.set()
            await asyncio.Event().wait()
            return {}

        await tools.journal.call("answer", {}, half)
        raise AssertionError

    first.script = [says_half]
    await world.start(dialog_workers=0)
    service = await world.start(flow=first, drain_seconds=1.0)
    await world.prepare()
    task = asyncio.create_task(talk(world, asking()))
    await said.wait()
    await world.stop(service)
    await world.start(flow=second)
    events = await task
    message = await world.message(events[-1].final.message_id)
    assert message.attempts == 1
    assert shape(events) == ["accepted", "delta", "reset", "delta", "delta", "final"]


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xfe", b"", b"not json", b"[]", b'["x", "Delta", "t", 1]', b'{"a": 1}', b'["x", 7, null, "y"]', b"1\n2"],
)
async def test_a_publication_that_cannot_be_read_is_skipped(world: World, garbage: bytes) -> None:
    await world.start(dialog_workers=0)
    service = await world.start()
    await world.prepare()
    world.flow.model = True
    world.flow.held = asyncio.Event()
    task = asyncio.create_task(talk(world, asking()))
    await until(lambda: _value(world.flow.asked))
    redis = service.runtime.redis()
    for topic in await redis.pubsub_channels(f"{service.runtime.settings.redis_prefix}:*"):
        await redis.publish(topic, garbage)
    world.flow.held.set()
    assert shape(await task) == ["accepted", "delta", "delta", "final"]
    assert not any(each.failed.done() for each in world.processes)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often messages were read, and how often it was asked which are answered."""
    counts = {"message": 0, "answered": 0}
    message, answered = PostgresReads.message, PostgresAnswered.__call__

    async def counted_message(self: PostgresReads, *arguments: Any) -> Any:
        counts["message"] += 1
        return await message(self, *arguments)

    async def counted_answered(self: PostgresAnswered, waiting: Any) -> Any:
        counts["answered"] += 1
        return await answered(self, waiting)

    monkeypatch.setattr(PostgresReads, "message", counted_message)
    monkeypatch.setattr(PostgresAnswered, "__call__", counted_answered)
    return counts


async def test_who_waits_for_a_reply_does_not_ask_for_it(world: World, reads: dict[str, int]) -> None:
    await world.start(dialog_workers=0)
    await world.start(dialog_workers=30)
    await world.prepare()
    world.flow.held = asyncio.Event()
    tasks = [asyncio.create_task(talk(world, asking(user=str(number)))) for number in range(20)]
    await until(lambda: _value(len(world.flow.asked) == 20))
    before = reads["answered"]
    await asyncio.sleep(6.0)
    assert reads["message"] == 0
    assert reads["answered"] - before <= 2, "one statement for all who wait, and seldom while Redis tells"
    world.flow.held.set()
    await asyncio.gather(*tasks)
    assert reads["message"] == 20


async def test_a_reply_whose_word_got_lost_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "LOOK_EVERY", 0.2)
    await world.start(dialog_workers=0)
    await world.start()
    await world.prepare()
    monkeypatch.setattr(RedisChats, "done", lambda *_: None)
    events = await asyncio.gather(*(talk(world, asking(user=str(number))) for number in range(5)))
    assert [each[-1].final.reply for each in events] == ["1: hi there"] * 5


async def test_each_caller_hears_of_a_turn_that_answers_several(world: World) -> None:
    await world.start()
    await world.prepare(debounce=Duration(seconds=2))
    first, second = await asyncio.gather(talk(world, asking("one")), talk(world, asking("two")))
    assert first[-1].final.reply == second[-1].final.reply
    assert len(world.flow.asked) == 1


async def _value(value: object) -> object:
    return value


async def test_the_same_request_id_fetches_the_same_reply(dialog: World) -> None:
    first = await talk(dialog, asking(request_id="k"))
    again = await talk(dialog, asking(request_id="k"))
    assert shape(again) == ["accepted", "final"]
    assert again[0].accepted.duplicate
    assert again[-1].final == first[-1].final
    assert len(dialog.flow.asked) == 1
    with pytest.raises(AlreadyExists) as raised:
        await talk(dialog, asking("something else", request_id="k"))
    assert raised.value.reason == "REQUEST_ID_REUSED"
    other_person = await talk(dialog, asking(user="u2", request_id="k"))
    assert not other_person[0].accepted.duplicate


async def test_at_the_deadline_the_turn_goes_on_and_its_result_can_be_fetched(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "MARGIN", 3.0)  # time enough to say so, also on a busy machine
    dialog.flow.held = asyncio.Event()
    with pytest.raises(DeadlineExceeded) as raised:
        await talk(dialog, asking(request_id="k"), timeout=5)
    assert raised.value.reason == "STILL_WORKING"
    message_id = raised.value.metadata["message_id"]
    dialog.flow.held.set()
    events = await talk(dialog, asking(request_id="k"))
    assert events[-1].final.message_id == message_id
    assert len(dialog.flow.asked) == 1


async def test_over_the_limit_says_when_to_come_back(dialog: World) -> None:
    dialog.flow.model = True
    dialog.limits.allowed = 0
    with pytest.raises(ResourceExhausted) as raised:
        await talk(dialog, asking())
    error = raised.value
    assert error.reason == "LIMIT_EXCEEDED"
    assert error.metadata == {"rule_id": "daily-quota", "remaining": "0"}
    assert error.retry_after is not None
    assert 3500 < error.retry_after <= 3600


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        (FailureKind.TERMINAL, "MODEL_REJECTED", FailedPrecondition),
        (FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", Unavailable),
        (FailureKind.RETRYABLE, "MODEL_TIMEOUT", DeadlineExceeded),
    ],
)
async def test_a_failed_model_is_told(dialog: World, kind: FailureKind, reason: str, code: type[CallError]) -> None:
    dialog.flow.script = [DecisionError(kind, reason, "no") for _ in range(3)]
    with pytest.raises(code) as raised:
        await talk(dialog, asking(), timeout=60)
    assert raised.value.reason == reason
    assert raised.value.metadata["message_id"]


async def test_nobody_waits_for_a_bot_that_does_not_answer(dialog: World) -> None:
    with pytest.raises(NotFound) as missing:
        await talk(dialog, asking(bot_id="nobody"))
    assert missing.value.reason == "BOT_NOT_FOUND"
    await dialog.bots.disable_bot(bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="r"))
    with pytest.raises(FailedPrecondition) as disabled:
        await talk(dialog, asking())
    assert disabled.value.reason == "BOT_DISABLED"
