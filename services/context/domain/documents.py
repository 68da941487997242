"""The documents of conversations and contacts, and how a save changes them. Times are Unix milliseconds."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from uuid import UUID

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from parley.context.v1 import context_pb2

from services.kernel.errors import FieldViolation, Kind, ParleyError

KEPT_MESSAGES = 50
KEPT_MESSAGES_BYTES = 384 * 1024
"""The longest history of a conversation, in bytes. The rest of MAX_DOCUMENT_BYTES is for the dialog."""
KEPT_REQUESTS = 8
"""The number of request ids that a document remembers. A lane repeats only the saves of its last turn."""
MAX_DOCUMENT_BYTES = 512 * 1024


@dataclass(frozen=True)
class Lifetimes:
    """The time, in milliseconds, for which each namespace is kept after a save."""

    dialog: int = 30 * 86_400_000
    messages: int = 86_400_000
    client: int = 86_400_000
    preferences: int = 365 * 86_400_000


@dataclass(frozen=True)
class Conversation:
    """A conversation's namespaces. An absent or expired one is None."""

    contact_id: UUID
    version: int = 0
    dialog: context_pb2.DialogData | None = None
    dialog_until: int = 0
    messages: context_pb2.MessagesData | None = None
    messages_until: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    """Versions by the request id that made them, oldest first."""

    def expires(self) -> int:
        return max(self.dialog_until, self.messages_until)


@dataclass(frozen=True)
class Contact:
    """A contact's namespaces. An absent or expired one is None."""

    version: int = 0
    client: context_pb2.ClientData | None = None
    client_until: int = 0
    preferences: context_pb2.PreferencesData | None = None
    preferences_until: int = 0

    def expires(self) -> int:
        return max(self.client_until, self.preferences_until)


_WHOLE = frozenset({"dialog", "messages", "client", "preferences"})


def snapshot(conversation: Conversation, contact: Contact, now: int, only: Set[str] = _WHOLE) -> context_pb2.Snapshot:
    """Returns those of these namespaces that have not expired at `now`."""
    result = context_pb2.Snapshot()
    if conversation.dialog is not None and conversation.dialog_until > now and "dialog" in only:
        result.dialog.CopyFrom(conversation.dialog)
    if conversation.messages is not None and conversation.messages_until > now and "messages" in only:
        result.messages.CopyFrom(conversation.messages)
    if contact.client is not None and contact.client_until > now and "client" in only:
        result.client.CopyFrom(contact.client)
    if contact.preferences is not None and contact.preferences_until > now and "preferences" in only:
        result.preferences.CopyFrom(contact.preferences)
    return result


def expires_in(conversation: Conversation, contact: Contact, now: int) -> Duration | None:
    """Returns the time from `now` until the first namespace expires; None if there is none."""
    ends = (conversation.dialog_until, conversation.messages_until, contact.client_until, contact.preferences_until)
    left = min((end - now for end in ends if end > now), default=0)
    return Duration(seconds=left // 1000, nanos=left % 1000 * 1_000_000) if left else None


def touches_contact(request: context_pb2.SaveContextRequest) -> bool:
    """Tells whether a save changes namespaces of the contact."""
    return any(path.partition(".")[0] in ("client", "preferences") for path in request.update_mask.paths)


def check_mask(mask: FieldMask) -> None:
    """Raises INVALID_UPDATE_MASK for a path that a snapshot does not have."""
    for path in mask.paths:
        if path in _WHOLE:
            continue
        if not FieldMask(paths=[path]).IsValidForDescriptor(context_pb2.Snapshot.DESCRIPTOR):
            raise ParleyError(
                Kind.INVALID,
                "INVALID_UPDATE_MASK",
                f"update_mask: there is no field {path!r}; use for example `dialog` or `client.name`",
                (FieldViolation("update_mask", f"unknown path {path!r}"),),
                {"field": "update_mask"},
            )


def save(
    conversation: Conversation,
    contact: Contact,
    request: context_pb2.SaveContextRequest,
    lifetimes: Lifetimes,
    now: int,
) -> tuple[Conversation, Contact]:
    """Returns both documents after a save. The version of each that has changed is one higher.

    Raises VERSION_MISMATCH.
    """
    if request.HasField("expected_version") and request.expected_version != conversation.version:
        raise ParleyError(
            Kind.CONFLICT,
            "VERSION_MISMATCH",
            f"The conversation has version {conversation.version}; read it again and repeat the change.",
            metadata={"expected": str(request.expected_version), "actual": str(conversation.version)},
        )
    after = _merged(snapshot(conversation, contact, now, _changed_in_part(request)), request)
    paths = {path.partition(".")[0] for path in request.update_mask.paths}
    version = conversation.version + 1
    dialog, dialog_until = conversation.dialog, conversation.dialog_until
    if "dialog" in paths:
        lifetime = request.dialog_ttl.ToMilliseconds() if request.HasField("dialog_ttl") else lifetimes.dialog
        dialog = after.dialog if after.HasField("dialog") else None
        dialog_until = now + lifetime if dialog is not None else 0
    messages, messages_until = conversation.messages, conversation.messages_until
    if "messages" in paths or request.append_messages:
        messages, messages_until = after.messages, now + lifetimes.messages
    requests = _remembered(conversation.requests, request.request_id, version)
    changed = Conversation(conversation.contact_id, version, dialog, dialog_until, messages, messages_until, requests)
    if not touches_contact(request):
        return changed, contact
    known = replace(contact, version=contact.version + 1)
    if "client" in paths:
        known = replace(known, client=after.client, client_until=now + lifetimes.client)
    if "preferences" in paths:
        known = replace(known, preferences=after.preferences, preferences_until=now + lifetimes.preferences)
    return changed, known


def _changed_in_part(request: context_pb2.SaveContextRequest) -> set[str]:
    """Returns the namespaces that a save changes in part. Others it replaces, or leaves as they are."""
    paths = request.update_mask.paths
    parts = {path.partition(".")[0] for path in paths if path not in _WHOLE}
    if request.append_messages:
        parts.add("messages")
    return parts.difference(paths)


def _merged(before: context_pb2.Snapshot, request: context_pb2.SaveContextRequest) -> context_pb2.Snapshot:
    for path in request.update_mask.paths:
        if path in _WHOLE:
            before.ClearField(path)  # type: ignore[arg-type]
            if request.changes.HasField(path):  # type: ignore[arg-type]
                getattr(before, path).CopyFrom(getattr(request.changes, path))
        else:
            FieldMask(paths=[path]).MergeMessage(request.changes, before, True, True)
    if request.append_messages:
        before.messages.entries.extend(request.append_messages)
    _trim(before.messages)
    return before


def _trim(messages: context_pb2.MessagesData) -> None:
    """Drops the oldest entries beyond the limits of number and bytes. The newest entry always stays."""
    kept = size = 0
    for entry in reversed(messages.entries[-KEPT_MESSAGES:]):
        size += entry.ByteSize()
        if kept and size > KEPT_MESSAGES_BYTES:
            break
        kept += 1
    del messages.entries[: len(messages.entries) - kept]


def _remembered(requests: Mapping[str, int], request_id: str, version: int) -> Mapping[str, int]:
    kept = list(requests.items())[-(KEPT_REQUESTS - 1) :]
    return dict([*kept, (request_id, version)])


_ConversationRow = tuple[int, bytes, int, bytes | None, int, bytes | None, int, dict[str, int]]
_ContactRow = tuple[int, int, bytes | None, int, bytes | None, int]
_encode = msgspec.msgpack.Encoder().encode
_decode_conversation = msgspec.msgpack.Decoder(_ConversationRow).decode
_decode_contact = msgspec.msgpack.Decoder(_ContactRow).decode
_FORMAT = 1


def pack_conversation(document: Conversation) -> bytes:
    """Returns the stored form. Raises TOO_LARGE beyond MAX_DOCUMENT_BYTES."""
    row: _ConversationRow = (
        _FORMAT,
        document.contact_id.bytes,
        document.version,
        None if document.dialog is None else document.dialog.SerializeToString(),
        document.dialog_until,
        None if document.messages is None else document.messages.SerializeToString(),
        document.messages_until,
        dict(document.requests),
    )
    return _checked(_encode(row))


def unpack_conversation(data: bytes) -> Conversation:
    """Returns the document of a stored form."""
    _, contact_id, version, dialog, dialog_until, messages, messages_until, requests = _decode_conversation(data)
    return Conversation(
        UUID(bytes=contact_id),
        version,
        None if dialog is None else context_pb2.DialogData.FromString(dialog),
        dialog_until,
        None if messages is None else context_pb2.MessagesData.FromString(messages),
        messages_until,
        requests,
    )


def pack_contact(document: Contact) -> bytes:
    """Returns the stored form. Raises TOO_LARGE beyond MAX_DOCUMENT_BYTES."""
    row: _ContactRow = (
        _FORMAT,
        document.version,
        None if document.client is None else document.client.SerializeToString(),
        document.client_until,
        None if document.preferences is None else document.preferences.SerializeToString(),
        document.preferences_until,
    )
    return _checked(_encode(row))


def unpack_contact(data: bytes) -> Contact:
    """Returns the document of a stored form."""
    _, version, client, client_until, preferences, preferences_until = _decode_contact(data)
    return Contact(
        version,
        None if client is None else context_pb2.ClientData.FromString(client),
        client_until,
        None if preferences is None else context_pb2.PreferencesData.FromString(preferences),
        preferences_until,
    )


def _checked(data: bytes) -> bytes:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ParleyError(
            Kind.INVALID,
            "TOO_LARGE",
            f"The conversation's context would have {len(data):,} bytes; {MAX_DOCUMENT_BYTES:,} are allowed.",
            metadata={"limit_bytes": str(MAX_DOCUMENT_BYTES)},
        )
    return data
