"""EDGE-8, EDGE-9: what Chat2Desk's hooks mean."""

import json
from typing import Any

import pytest

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

from services.edge.problems import Problem
from services.edge.providers.base import Event
from services.edge.providers.chat2desk import translate

CHANNEL = channel_pb2.Channel(
    tenant_id="demo", channel_id="demo-chat2desk", bot_id="water", provider=channel_pb2.PROVIDER_CHAT2DESK
)


def inbox(**changes: Any) -> dict[str, Any]:
    hook: dict[str, Any] = {
        "hook_type": "inbox",
        "message_id": 8851,
        "type": "from_client",
        "text": "Здравствуйте",
        "transport": "whatsapp",
        "client_id": 551,
        "operator_id": None,
        "dialog_id": 77,
        "channel_id": 12,
        "photo": None,
        "audio": None,
        "pdf": None,
        "client": {"id": 551, "phone": "996555123456", "name": "Айгуль"},
        "request_id": 991,
        "attachments": [],
        "is_new_request": True,
        "is_new_client": False,
        "extra_data": {},
        "event_time": "2026-11-21T08:00:00Z",
    }
    return {key: value for key, value in {**hook, **changes}.items() if value is not ...}


def event(hook: dict[str, Any]) -> Event:
    """The one event that a hook says."""
    (only,) = translate(CHANNEL, json.dumps(hook).encode())
    return only


def message(**changes: Any) -> dialog_pb2.SubmitMessageRequest:
    meant = event(inbox(**changes))
    assert isinstance(meant, dialog_pb2.SubmitMessageRequest)
    return meant


def test_an_inbox_hook_is_a_message_of_its_client() -> None:
    request = message()
    assert (request.tenant_id, request.channel_id, request.bot_id) == ("demo", "demo-chat2desk", "water")
    assert request.chat_id == "551"
    assert request.dedupe_key == "inbox:8851"
    assert request.content.text == "Здравствуйте"
    assert request.sender.identity.kind == identity_pb2.IDENTITY_KIND_CHAT2DESK
    assert request.sender.display_name == "Айгуль"
    assert request.sender.also_known_as[0].value == "996555123456"
    assert request.provider_time.ToJsonString() == "2026-11-21T08:00:00Z"
    assert not request.rejection


def test_ids_may_be_text() -> None:
    assert message(message_id="m-1", client_id="c-1").dedupe_key == "inbox:m-1"


def test_a_client_without_a_phone_is_complete() -> None:
    request = message(client={"id": 551, "name": None, "phone": None})
    assert not request.sender.also_known_as


def test_a_phone_that_is_no_number_is_no_identity() -> None:
    assert not message(client={"id": 551, "phone": "[tg] durov"}).sender.also_known_as


@pytest.mark.parametrize("hook", [{"hook_type": "outbox"}, {"type": "to_client"}, {"type": "autoreply"}])
def test_echoes_of_our_own_messages_are_ignored(hook: dict[str, Any]) -> None:
    assert not translate(CHANNEL, json.dumps(inbox(**hook)).encode())


def test_an_outbox_status_with_an_error_is_a_failed_delivery() -> None:
    hook = {"hook_type": "outbox_status", "message_id": 9, "status": "sent", "error": "blocked by client"}
    meant = event(hook)
    assert isinstance(meant, delivery_pb2.ReportStatusRequest)
    assert meant.provider_message_id == "9"
    assert meant.status == delivery_pb2.PROVIDER_STATUS_FAILED
    assert meant.error == "blocked by client"


@pytest.mark.parametrize(("given", "word"), [("Queued\0", "queued"), ("x" * 99, "x" * 64), (None, ""), ("", "")])
def test_a_status_word_that_is_not_known_is_no_good_news(given: str | None, word: str) -> None:
    meant = event({"hook_type": "outbox_status", "message_id": 9, "status": given})
    assert isinstance(meant, delivery_pb2.ReportStatusRequest)
    assert (meant.status, meant.word) == (delivery_pb2.PROVIDER_STATUS_UNKNOWN, word)
    assert meant.dedupe_key == f"outbox_status:9:{word}"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("blocked", "blocked"),
        (131026, "131026"),
        ({"code": 7, "message": "blocked", "trace": {"host": "10.0.0.1"}}, "blocked, 7"),
        ([{"title": "one"}, "two", ["three"]], "one; two; three"),
        ({"elsewhere": "secret"}, ""),
        (True, ""),
    ],
)
def test_of_an_error_only_its_words_are_passed_on(said: Any, error: str) -> None:
    hook = {"hook_type": "outbox_status", "message_id": 9, "status": "delivered", "error": said}
    meant = event(hook)
    assert isinstance(meant, delivery_pb2.ReportStatusRequest)
    assert (meant.status, meant.error) == (delivery_pb2.PROVIDER_STATUS_FAILED, error)


def test_photos_and_files_are_attachments() -> None:
    files = [{"name": "a.pdf", "link": "https://x.example/a.pdf"}]
    request = message(text=None, photo="https://x.example/p.jpg", attachments=files)
    kinds = [attachment.kind for attachment in request.content.attachments]
    assert kinds == [content_pb2.ATTACHMENT_KIND_IMAGE, content_pb2.ATTACHMENT_KIND_FILE]
    assert not request.rejection


def test_a_message_without_anything_in_it_is_stored_as_unsupported() -> None:
    assert message(text="").rejection == dialog_pb2.REJECTION_REASON_UNSUPPORTED


def test_an_unknown_hook_is_stored_as_unsupported_once() -> None:
    first, second = message(hook_type="add_tag_to_client"), message(hook_type="add_tag_to_client")
    assert first.rejection == dialog_pb2.REJECTION_REASON_UNSUPPORTED
    assert first.dedupe_key == second.dedupe_key
    assert first.dedupe_key != message(hook_type="close_dialog").dedupe_key


def test_nul_is_stripped() -> None:
    assert message(text="a\x00b").content.text == "ab"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client_id": ..., "client": ...}, "client_id"),
        ({"message_id": ...}, "message_id"),
        ({"message_id": ""}, "message_id"),
        ({"client_id": "x" * 129}, "client_id"),
        ({"text": 5}, "text"),
        ({"client": {"id": 1, "name": 7}}, "client.name"),
        ({"hook_type": ..., "type": ...}, "hook_type"),
    ],
)
def test_a_missing_or_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Problem) as caught:
        message(**changes)
    assert (caught.value.status, caught.value.field) == (422, field)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"not json"])
def test_what_is_not_json_is_a_400(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        translate(CHANNEL, body)
    assert caught.value.status == 400


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        translate(CHANNEL, b'{"hook_type": "inbox", "extra": ' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    assert refused.value.status == 400


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_outside_the_calendar_is_left_out(when: str) -> None:
    meant = event(inbox(event_time=when))
    assert isinstance(meant, dialog_pb2.SubmitMessageRequest)
    assert not meant.HasField("provider_time")


def test_a_text_beyond_the_limit_names_its_field() -> None:
    with pytest.raises(Problem) as refused:
        translate(CHANNEL, json.dumps(inbox(text="ж" * 65_537)).encode())
    assert (refused.value.status, refused.value.field) == (422, "text")


def test_an_unsupported_hook_is_stored_whatever_its_client_is_called() -> None:
    meant = event(inbox(hook_type="\0new", client_id="x" * 300))
    assert isinstance(meant, dialog_pb2.SubmitMessageRequest)
    assert meant.rejection == dialog_pb2.REJECTION_REASON_UNSUPPORTED
    assert len(meant.chat_id) == 128


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("01a1fd80-2346-77a3-bff5-210db60ea2de.0.1", "01a1fd80-2346-77a3-bff5-210db60ea2de.0.1"),
        ("01a1fd80-2346-77a3-bff5-210db60ea2de.0", "01a1fd80-2346-77a3-bff5-210db60ea2de.0"),
        ("01a1fd80-2346-77a3-bff5-210db60ea2de.0.1.2", ""),
        ("crm-17", ""),
        (17, ""),
    ],
)
def test_a_status_passes_our_own_part_id_on_and_no_other_systems(given: Any, passed_on: str) -> None:
    hook = {"hook_type": "outbox_status", "message_id": 9, "status": "sent", "external_id": given}
    meant = event(hook)
    assert isinstance(meant, delivery_pb2.ReportStatusRequest)
    assert meant.external_id == passed_on
