"""EDGE-1, EDGE-2: `/v1/chat/send` and `/v1/chat/stream`."""

import asyncio
import json
from typing import Any

import pytest

from parley.common.v1 import identity_pb2

from services.kernel.errors import Kind, ParleyError
from tests.integration.edge.conftest import Edge


async def test_chat_answers_with_reply_tokens_and_quota(edge: Edge) -> None:
    status, body, _ = await edge.chat({"telegram_id": 5, "message": "hi"})
    assert status == 200
    assert body == {"message_id": "m1", "reply": "Hello", "tokens_used": 15, "remaining_today": 29}
    assert edge.dialog.chats[0].sender.identity.kind == identity_pb2.IDENTITY_KIND_TELEGRAM


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"message": "hi"}, "telegram_id"),
        ({"telegram_id": 1, "user_id": "a", "message": "hi"}, "telegram_id"),
        ({"telegram_id": "x", "message": "hi"}, "telegram_id"),
        ({"telegram_id": 1}, "message"),
        ({"telegram_id": 1, "message": "  "}, "message"),
        ({"user_id": "", "message": "hi"}, "user_id"),
        ({"user_id": " \t ", "message": "hi"}, "user_id"),
        (b"nonsense", "$"),
    ],
)
async def test_a_bad_chat_body_is_a_422_that_names_the_field(edge: Edge, body: Any, name: str) -> None:
    status, problem, _ = await edge.chat(body)
    assert (status, problem["field"]) == (422, name)


async def test_blanks_around_a_user_id_make_no_other_person(edge: Edge) -> None:
    for user_id in ("bob", " bob\n"):
        assert (await edge.chat({"user_id": user_id, "message": "hi"}))[0] == 200
    assert [request.sender.identity.value for request in edge.dialog.chats] == ["bob", "bob"]


async def test_a_bad_key_is_a_401(edge: Edge) -> None:
    for key in ("bad", ""):
        status, body, _ = await edge.chat({"telegram_id": 1, "message": "hi"}, key=key)
        assert (status, body["reason"]) == (401, "INVALID_API_KEY")


async def test_many_calls_with_a_new_key_ask_once(edge: Edge) -> None:
    answers = await asyncio.gather(*(edge.chat({"telegram_id": n, "message": "hi"}) for n in range(30)))
    assert {status for status, _, _ in answers} == {200}
    assert edge.dialog.verified == ["good"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ParleyError(Kind.EXHAUSTED, "LIMIT_EXCEEDED", "no more today", retry_after=61.5), 429),
        (ParleyError(Kind.UNAVAILABLE, "MODEL_UNAVAILABLE", "the model failed", metadata={"message_id": "m1"}), 502),
        (ParleyError(Kind.DEADLINE, "MODEL_TIMEOUT", "too slow", metadata={"message_id": "m1"}), 504),
        (ParleyError(Kind.DEADLINE, "STILL_WORKING", "later", metadata={"message_id": "m1"}), 504),
    ],
)
async def test_failed_chats_have_their_status(edge: Edge, error: ParleyError, status: int) -> None:
    edge.dialog.error = error
    answered, body, headers = await edge.chat({"telegram_id": 1, "message": "hi"})
    assert (answered, body["reason"]) == (status, error.reason)
    if status == 429:
        assert headers["retry-after"] == "62"
    else:
        assert body["message_id"] == "m1"


async def test_an_idempotency_key_is_the_persons_own(edge: Edge) -> None:
    key = {"Idempotency-Key": "k"}
    for person in (1, 1, 2):
        await edge.chat({"telegram_id": person, "message": "hi"}, **key)
    ids = [chat.request_id for chat in edge.dialog.chats]
    assert ids[0] == ids[1] != ids[2]


async def test_chat_streams_deltas_and_the_final_reply(edge: Edge) -> None:
    async with edge.http.post(
        edge.url + "/v1/chat/stream", json={"user_id": "u", "message": "hi"}, headers={"X-API-KEY": "good"}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = await response.text()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == ["delta", "reset", "done"]
    assert json.loads(text.rpartition("data: ")[2])["reply"] == "Hello"


async def test_a_stream_that_fails_before_its_first_text_has_the_status(edge: Edge) -> None:
    edge.dialog.error = ParleyError(Kind.EXHAUSTED, "LIMIT_EXCEEDED", "no more today", retry_after=5)
    async with edge.http.post(
        edge.url + "/v1/chat/stream", json={"user_id": "u", "message": "hi"}, headers={"X-API-KEY": "good"}
    ) as response:
        assert response.status == 429
