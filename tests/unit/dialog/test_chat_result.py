"""What the caller of a chat gets."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from parley.common.v1 import identity_pb2
from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.flows import TurnPlan
from services.dialog.domain.turns import (
    MessageState,
    Outcome,
    Plan,
    Refused,
)
from services.dialog.ports import Stored
from services.dialog.usecases.chat import final_of, submission
from services.dialog.usecases.submit import dedupe_id
from services.kernel.errors import Kind, ParleyError
from services.runtime.content import of_text

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def stored(state: MessageState, *, reason: str = "", planned: bool = True, **plan: Any) -> Stored:
    message = dialog_pb2.Message(message_id="m", state=dialog_pb2.MessageState.ValueType(state), terminal_reason=reason)
    values: dict[str, Any] = {
        "outcome": Outcome.ANSWERED,
        "decided": TurnPlan(replies=[of_text("one"), of_text("two")]),
        "remaining": 7,
    } | plan
    made = Plan(uuid4(), 1, 1, contact_id="", dialog_ttl=0, bot_revision=1, **values)
    return Stored(message, made if planned else None, "", "")


@pytest.mark.parametrize("state", [MessageState.RECEIVED, MessageState.PROCESSING, MessageState.FAILED])
def test_a_message_that_is_not_answered_has_no_result_yet(state: MessageState) -> None:
    assert final_of(stored(state, planned=False), NOW.timestamp) is None


def test_replies_are_joined_by_an_empty_line() -> None:
    final = final_of(stored(MessageState.COMPLETED), NOW.timestamp)
    assert final is not None
    assert (final.reply, final.remaining_today) == ("one\n\ntwo", 7)


def test_nothing_is_said_of_a_quota_that_was_not_counted() -> None:
    final = final_of(stored(MessageState.COMPLETED, remaining=None), NOW.timestamp)
    assert final is not None
    assert not final.HasField("remaining_today")


@pytest.mark.parametrize(("passed", "left"), [(0, 60), (59, 1), (70, 0)])
def test_a_refusal_says_how_long_to_wait_from_now(passed: int, left: int) -> None:
    refused = Refused("daily-quota", 0, NOW + timedelta(seconds=60))
    later = NOW + timedelta(seconds=passed)
    with pytest.raises(ParleyError) as raised:
        final_of(stored(MessageState.COMPLETED, outcome=Outcome.LIMITED, refused=refused), later.timestamp)
    assert (raised.value.reason, raised.value.retry_after) == ("LIMIT_EXCEEDED", left)


@pytest.mark.parametrize(
    ("reason", "told", "kind"),
    [
        ("MODEL_UNAVAILABLE", "MODEL_UNAVAILABLE", Kind.UNAVAILABLE),
        ("MODEL_TIMEOUT", "MODEL_TIMEOUT", Kind.DEADLINE),
        ("MODEL_REJECTED", "MODEL_REJECTED", Kind.PRECONDITION),
        ("BOT_NOT_FOUND", "BOT_NOT_FOUND", Kind.NOT_FOUND),
        ("INTERNAL", "INTERNAL", Kind.INTERNAL),
        ("SOMETHING_NEW", "INTERNAL", Kind.INTERNAL),
    ],
)
def test_a_dead_message_is_a_failure_of_the_call(reason: str, told: str, kind: Kind) -> None:
    with pytest.raises(ParleyError) as raised:
        final_of(stored(MessageState.TERMINAL, reason=reason), NOW.timestamp)
    assert (raised.value.reason, raised.value.kind, raised.value.metadata["message_id"]) == (told, kind, "m")


def request(
    kind: "identity_pb2.IdentityKind.ValueType", value: str, request_id: str
) -> dialog_pb2.SubmitMessageRequest:
    chat = dialog_pb2.ChatRequest(tenant_id="acme", channel_id="api", bot_id="bot", request_id=request_id)
    chat.sender.identity.kind, chat.sender.identity.value = kind, value
    return submission(chat)


def test_a_conversation_is_one_persons_and_a_request_id_is_too() -> None:
    telegram, external = identity_pb2.IDENTITY_KIND_TELEGRAM, identity_pb2.IDENTITY_KIND_EXTERNAL
    made = [request(telegram, "42", "k"), request(external, "42", "k"), request(telegram, "43", "k")]
    assert len({one.chat_id for one in made}) == 3
    assert len({one.dedupe_key for one in made}) == 3


def test_dedupe_ids_differ_when_any_part_does() -> None:
    parts = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d"), ("x", "b", "c")]
    assert len({dedupe_id(*each) for each in parts}) == len(parts)
    assert dedupe_id("a", "b", "c") == dedupe_id("a", "b", "c")
