"""EDGE-5, DLG-6, LIM-1, LIM-2: the assistant over the REST API."""

import asyncio
from datetime import datetime, time, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.support.mesh import Mesh
from tests.support.simulator import Simulator

LONGEST_COUNT = timedelta(minutes=2)
"""What tests that count over several questions may take."""


@pytest.fixture
async def one_day() -> None:
    """The day of the quota does not end within the test."""
    left = until_midnight()
    if left < LONGEST_COUNT:
        await asyncio.sleep(left.total_seconds() + 1)


def until_midnight() -> timedelta:
    """How long the demo tenant's day lasts."""
    now = datetime.now(ZoneInfo("Asia/Bishkek"))
    return datetime.combine(now.date() + timedelta(days=1), time(tzinfo=now.tzinfo)) - now


async def send(stack: Mesh, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any], Any]:
    key = headers.pop("key", stack.demo["api"]["key"])
    async with stack.http.post(
        f"{stack.edge}/v1/chat/send", json=body, headers={"X-API-KEY": key, **headers}
    ) as response:
        return response.status, await response.json(content_type=None), response.headers


def someone() -> int:
    return uuid4().int % 10**12


async def fault(stack: Mesh, **what: Any) -> None:
    async with stack.http.post(f"{stack.simulator}/faults", json={"provider": "openai", **what}) as response:
        assert response.status == 201, await response.text()


async def test_a_question_is_answered_with_tokens_and_quota(stack: Mesh) -> None:
    status, body, _ = await send(stack, {"telegram_id": someone(), "message": "Как увеличить продажи?"})
    assert status == 200
    assert body["reply"] and body["tokens_used"] > 0
    assert body["remaining_today"] == 29
    assert body["message_id"]


async def test_a_key_made_on_the_command_line_works_and_a_bad_one_does_not(stack: Mesh) -> None:
    made = await stack.parley_json("keys", "create", "--scope", "chat")
    status, _, _ = await send(stack, {"user_id": "u1", "message": "hi"}, key=made["key"])
    assert status == 200
    status, body, _ = await send(stack, {"user_id": "u1", "message": "hi"}, key="nonsense")
    assert (status, body["reason"]) == (401, "INVALID_API_KEY")


@pytest.mark.usefixtures("one_day")
async def test_the_thirty_first_question_of_a_day_is_refused_and_costs_nothing(stack: Mesh) -> None:
    person = someone()
    answers = await asyncio.gather(*(send(stack, {"telegram_id": person, "message": str(n)}) for n in range(10)))
    assert [status for status, _, _ in answers] == [200] * 10
    for _ in range(20):
        status, body, _ = await send(stack, {"telegram_id": person, "message": "more"})
        assert status == 200
    assert body["remaining_today"] == 0
    status, body, headers = await send(stack, {"telegram_id": person, "message": "too much"})
    assert (status, body["reason"]) == (429, "LIMIT_EXCEEDED")
    left = until_midnight().total_seconds()
    assert abs(int(headers["retry-after"]) - left) < 30, "LIM-1: the quota comes back at midnight of the tenant"
    assert (await send(stack, {"telegram_id": someone(), "message": "another person"}))[0] == 200


async def test_commands_are_free(stack: Mesh) -> None:
    person = someone()
    for command in ("/start", "/help", "/refresh"):
        status, body, _ = await send(stack, {"telegram_id": person, "message": command})
        assert (status, body["tokens_used"]) == (200, 0)
    _, body, _ = await send(stack, {"telegram_id": person, "message": "question"})
    assert body["remaining_today"] == 29


async def test_a_model_that_refuses_is_a_502_and_costs_nothing(stack: Mesh) -> None:
    person = someone()
    text = f"refuse-{person}"
    await fault(stack, kind="status", status=400, count=1, match={"text": text})
    status, body, _ = await send(stack, {"telegram_id": person, "message": text})
    assert (status, bool(body["detail"])) == (502, True)
    _, body, _ = await send(stack, {"telegram_id": person, "message": "and now"})
    assert body["remaining_today"] == 29


async def test_a_model_that_fails_for_a_moment_is_asked_again(stack: Mesh) -> None:
    person = someone()
    text = f"flaky-{person}"
    await fault(stack, kind="status", status=500, count=1, match={"text": text})
    status, body, _ = await send(stack, {"telegram_id": person, "message": text})
    assert status == 200
    message = await stack.parley_json("messages", "show", body["message_id"])
    assert message["attempts"] == 2


@pytest.mark.usefixtures("one_day")
async def test_the_same_idempotency_key_gives_the_same_answer_and_charges_once(stack: Mesh) -> None:
    person = someone()
    body = {"telegram_id": person, "message": "once"}
    key = {"Idempotency-Key": str(uuid4())}
    first, second = [await send(stack, body, **key) for _ in range(2)]
    assert first[1]["message_id"] == second[1]["message_id"]
    assert first[1]["reply"] == second[1]["reply"]
    _, third, _ = await send(stack, {"telegram_id": person, "message": "next"})
    assert third["remaining_today"] == 28


async def test_the_stream_ends_with_the_whole_reply(stack: Mesh) -> None:
    headers = {"X-API-KEY": stack.demo["api"]["key"]}
    person = someone()
    # Slowly, for a caller who is late to listen finds the whole reply in the store.
    model = Simulator(stack.simulator, stack.http)
    await model.script(contains=f"stream it to {person}", reply="one two three four five", seconds_per_piece=0.2)
    body = {"telegram_id": person, "message": f"stream it to {person}"}
    async with stack.http.post(f"{stack.edge}/v1/chat/stream", json=body, headers=headers) as response:
        text = await response.text()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[-1] == "done"
    assert "delta" in names


async def test_only_the_last_five_messages_are_shown_to_the_model(stack: Mesh) -> None:
    person = someone()
    for number in range(6):
        await send(stack, {"telegram_id": person, "message": f"question {number} of {person}"})
    async with stack.http.get(f"{stack.simulator}/calls", params={"provider": "openai", "limit": "1000"}) as response:
        calls = (await response.json())["calls"]
    mine = [call["body"] for call in calls if f"question 5 of {person}" in str(call["body"]["input"])]
    shown = [item for item in mine[-1]["input"] if item.get("role") in ("user", "assistant")]
    assert len(shown) == 6
