"""CTX-1, CTX-3: how saves change what is remembered."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from parley.context.v1 import context_pb2

from services.context.domain import documents
from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.kernel.errors import ParleyError

HOUR = 3_600_000
NOW = 1_800_000_000_000
LIFETIMES = Lifetimes()
EMPTY = Conversation(uuid4())


def entry(text: str) -> context_pb2.HistoryEntry:
    return context_pb2.HistoryEntry(role=context_pb2.ROLE_USER, text=text)


def request(paths: Sequence[str] = (), request_id: str = "r1", **more: Any) -> context_pb2.SaveContextRequest:
    return context_pb2.SaveContextRequest(request_id=request_id, update_mask=FieldMask(paths=paths), **more)


def saved(
    base: Conversation, change: context_pb2.SaveContextRequest, contact: Contact | None = None, now: int = NOW
) -> tuple[Conversation, Contact]:
    return documents.save(base, contact or Contact(), change, LIFETIMES, now)


def test_a_named_namespace_is_replaced_and_the_rest_is_left() -> None:
    changes = context_pb2.Snapshot(dialog=context_pb2.DialogData(step="waiting_phone"))
    first, _ = saved(EMPTY, request(["dialog"], changes=changes, append_messages=[entry("hi")]))
    second, _ = saved(
        first, request(["dialog"], "r2", changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(flow="f")))
    )
    assert (second.dialog and second.dialog.flow, second.dialog and second.dialog.step) == ("f", "")
    assert second.messages is not None and [e.text for e in second.messages.entries] == ["hi"]
    assert (first.version, second.version) == (1, 2)


def test_a_named_field_changes_alone() -> None:
    base, _ = saved(EMPTY, request(["dialog"], changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(flow="f"))))
    changed, _ = saved(
        base, request(["dialog.step"], "r2", changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(step="s")))
    )
    assert changed.dialog is not None
    assert (changed.dialog.flow, changed.dialog.step) == ("f", "s")


def test_a_named_namespace_that_the_changes_lack_is_cleared() -> None:
    base, _ = saved(EMPTY, request(["dialog"], changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(flow="f"))))
    cleared, _ = saved(base, request(["dialog"], "r2"))
    assert cleared.dialog is None


def test_messages_are_added_and_the_newest_fifty_are_kept() -> None:
    conversation = EMPTY
    for start in range(0, 80, 40):
        entries = [entry(str(number)) for number in range(start, start + 40)]
        conversation, _ = saved(conversation, request(request_id=f"r{start}", append_messages=entries))
    assert conversation.messages is not None
    assert [e.text for e in conversation.messages.entries] == [str(number) for number in range(30, 80)]


def test_a_history_of_long_messages_loses_its_oldest_and_never_stops_the_saves() -> None:
    conversation = EMPTY
    for number in range(30):
        appended = [entry(f"{number:02}" + "я" * 16_000)]
        conversation, _ = saved(conversation, request(request_id=f"r{number}", append_messages=appended))
        documents.pack_conversation(conversation)
    assert conversation.messages is not None
    # An entry has 32,002 bytes of text: twelve fit.
    assert [e.text[:2] for e in conversation.messages.entries] == [str(number) for number in range(18, 30)]
    assert conversation.messages.ByteSize() <= documents.KEPT_MESSAGES_BYTES


def test_of_long_messages_added_at_once_the_newest_are_kept() -> None:
    conversation, _ = saved(EMPTY, request(append_messages=[entry(f"{number}" + "я" * 60_000) for number in range(5)]))
    documents.pack_conversation(conversation)
    assert conversation.messages is not None
    assert [e.text[0] for e in conversation.messages.entries] == ["2", "3", "4"]


def test_the_history_can_be_replaced_by_the_entries_added() -> None:
    base, _ = saved(EMPTY, request(append_messages=[entry("old")]))
    changed, _ = saved(base, request(["messages"], "r2", append_messages=[entry("new")]))
    assert changed.messages is not None and [e.text for e in changed.messages.entries] == ["new"]


def test_each_namespace_expires_by_itself() -> None:
    changes = context_pb2.Snapshot(dialog=context_pb2.DialogData(flow="f"))
    base, _ = saved(EMPTY, request(["dialog"], changes=changes, append_messages=[entry("hi")]))
    soon = documents.snapshot(base, Contact(), NOW + 23 * HOUR)
    later = documents.snapshot(base, Contact(), NOW + 25 * HOUR)
    last = documents.snapshot(base, Contact(), NOW + 31 * 24 * HOUR)
    assert soon.HasField("dialog") and soon.HasField("messages")
    assert later.HasField("dialog") and not later.HasField("messages")
    assert not last.HasField("dialog")


def test_a_save_may_say_how_long_the_dialog_is_kept() -> None:
    changes = context_pb2.Snapshot(dialog=context_pb2.DialogData(flow="f"))
    base, _ = saved(EMPTY, request(["dialog"], changes=changes, dialog_ttl=Duration(seconds=7200)))
    assert documents.snapshot(base, Contact(), NOW + HOUR).HasField("dialog")
    assert not documents.snapshot(base, Contact(), NOW + 3 * HOUR).HasField("dialog")


def test_what_is_kept_of_an_answer_is_kept_no_longer_than_its_first_namespace() -> None:
    conversation = Conversation(uuid4(), dialog_until=NOW + 90_500, messages_until=NOW - 1)
    contact = Contact(client_until=NOW + 90_400, preferences_until=NOW + HOUR)
    left = documents.expires_in(conversation, contact, NOW)
    assert left is not None and left.ToMilliseconds() == 90_400
    assert documents.expires_in(conversation, Contact(), NOW + 90_500) is None


def test_an_expired_namespace_does_not_come_back_with_a_partial_save() -> None:
    base, _ = saved(EMPTY, request(append_messages=[entry("old")]))
    changed, _ = saved(base, request(request_id="r2", append_messages=[entry("new")]), now=NOW + 25 * HOUR)
    assert changed.messages is not None and [e.text for e in changed.messages.entries] == ["new"]


def test_the_contacts_namespaces_change_with_the_conversations() -> None:
    changes = context_pb2.Snapshot(client=context_pb2.ClientData(name="Айгуль"))
    conversation, contact = saved(EMPTY, request(["client.name"], changes=changes))
    assert (conversation.version, contact.version) == (1, 1)
    assert documents.snapshot(conversation, contact, NOW).client.name == "Айгуль"


def test_an_expected_version_that_is_not_the_stored_one_fails() -> None:
    with pytest.raises(ParleyError) as caught:
        saved(EMPTY, request(expected_version=3))
    assert caught.value.reason == "VERSION_MISMATCH"
    assert caught.value.metadata == {"expected": "3", "actual": "0"}


def test_the_last_request_ids_are_remembered_with_their_versions() -> None:
    conversation = EMPTY
    for number in range(12):
        conversation, _ = saved(conversation, request(request_id=f"r{number}"))
    assert dict(conversation.requests) == {f"r{number}": number + 1 for number in range(4, 12)}


@pytest.mark.parametrize("path", ["nothing", "dialog.nothing", "client.name.first", ""])
def test_a_mask_with_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ParleyError) as caught:
        documents.check_mask(FieldMask(paths=[path]))
    assert caught.value.reason == "INVALID_UPDATE_MASK"


@pytest.mark.parametrize("path", ["dialog", "dialog.slots", "client.name", "messages", "preferences"])
def test_a_mask_with_known_paths_is_accepted(path: str) -> None:
    documents.check_mask(FieldMask(paths=[path]))


def test_stored_forms_give_the_same_documents_back() -> None:
    changes = context_pb2.Snapshot(
        dialog=context_pb2.DialogData(flow="f", step="s"), client=context_pb2.ClientData(name="n")
    )
    conversation, contact = saved(EMPTY, request(["dialog", "client"], changes=changes, append_messages=[entry("x")]))
    assert documents.unpack_conversation(documents.pack_conversation(conversation)) == conversation
    assert documents.unpack_contact(documents.pack_contact(contact)) == contact


def test_a_context_that_is_too_large_is_refused_with_the_limit() -> None:
    conversation, _ = saved(EMPTY, request(append_messages=[entry("я" * 300_000)]))
    with pytest.raises(ParleyError) as caught:
        documents.pack_conversation(conversation)
    assert caught.value.reason == "TOO_LARGE"
    assert caught.value.metadata == {"limit_bytes": str(documents.MAX_DOCUMENT_BYTES)}
