"""Chat2Desk's hooks, as FROM the provider: JSON in, protobuf out.

Hooks are `inbox` (a person wrote), `outbox` (an echo of what was sent), `outbox_status` (what became of it), and
others about dialogs, tags and the like.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

from services.edge.problems import Problem

_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{6,20}")
_MEDIA = {
    "photo": content_pb2.ATTACHMENT_KIND_IMAGE,
    "audio": content_pb2.ATTACHMENT_KIND_AUDIO,
    "video": content_pb2.ATTACHMENT_KIND_VIDEO,
    "pdf": content_pb2.ATTACHMENT_KIND_FILE,
}


class Client(msgspec.Struct):
    """The person, as Chat2Desk knows them."""

    id: int | str | None = None
    phone: str | int | None = None
    name: str | None = None


class File(msgspec.Struct):
    """One entry of `attachments`."""

    link: str | None = None
    url: str | None = None
    name: str | None = None


class Hook(msgspec.Struct):
    """The fields of a hook that Parley reads."""

    hook_type: str = ""
    type: str = ""
    message_id: int | str | None = None
    client_id: int | str | None = None
    text: str | None = None
    photo: str | None = None
    audio: str | None = None
    video: str | None = None
    pdf: str | None = None
    client: Client | None = None
    attachments: list[File] | None = None
    event_time: str | None = None
    external_id: str | int | None = None
    status: str | None = None
    error: Any = None
    errors: Any = None


_decoder = msgspec.json.Decoder(Hook)


@dataclass(frozen=True)
class Ignored:
    """A hook that says nothing new, for example the echo of our own message."""

    why: str


Translated = dialog_pb2.SubmitMessageRequest | delivery_pb2.ReportStatusRequest | Ignored


def translate(channel: channel_pb2.Channel, body: bytes) -> Translated:
    """What a hook means.

    Raises Problem: 400 when the body is not JSON, 422 with the field's name when a field is missing or wrong.
    """
    hook = _decode(body)
    kind = hook.hook_type or ("inbox" if hook.type == "from_client" else hook.type)
    if kind == "outbox" or (kind == "inbox" and hook.type not in ("", "from_client")):
        return Ignored("outbox")
    if kind == "outbox_status":
        return _status(channel, hook)
    if not kind:
        raise Problem(422, "INVALID_FIELD", "hook_type: is missing", "hook_type")
    if kind == "inbox":
        return _message(channel, hook)
    return _unsupported(channel, hook, kind, body)


def _decode(body: bytes) -> Hook:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or "$"
        raise Problem(422, "INVALID_FIELD", f"{field}: {what}", field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested too deeply to be meant
        raise Problem(400, "INVALID_FIELD", "The body is not JSON.", "$") from None


def _message(channel: channel_pb2.Channel, hook: Hook) -> dialog_pb2.SubmitMessageRequest:
    message_id = _required(hook.message_id, "message_id")
    request = _submit(channel, hook, _required(_client_id(hook), "client_id"))
    request.provider_message_id = message_id
    request.dedupe_key = f"inbox:{message_id}"
    content = request.content
    if not (content.text or content.attachments):
        request.rejection = dialog_pb2.REJECTION_REASON_UNSUPPORTED
    return request


def _unsupported(channel: channel_pb2.Channel, hook: Hook, kind: str, body: bytes) -> dialog_pb2.SubmitMessageRequest:
    request = _submit(channel, hook, clean(str(_client_id(hook) or ""))[:128] or "unknown")
    request.dedupe_key = f"{clean(kind)[:64]}:{hashlib.sha256(body).hexdigest()}"
    request.rejection = dialog_pb2.REJECTION_REASON_UNSUPPORTED
    return request


def _submit(channel: channel_pb2.Channel, hook: Hook, client_id: str) -> dialog_pb2.SubmitMessageRequest:
    identity = identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_CHAT2DESK, value=client_id)
    sender = identity_pb2.Sender(identity=identity)
    if hook.client is not None:
        sender.display_name = clean(hook.client.name or "")[:256]
        phone = str(hook.client.phone or "")
        if _PHONE.fullmatch(phone):
            sender.also_known_as.add(kind=identity_pb2.IDENTITY_KIND_PHONE, value=phone)
    text = clean(hook.text or "")
    if len(text) > 65_536:
        raise Problem(422, "INVALID_FIELD", "text: is longer than 65,536 characters", "text")
    content = content_pb2.InboundContent(text=text)
    _attach(content, hook)
    request = dialog_pb2.SubmitMessageRequest(
        tenant_id=channel.tenant_id,
        channel_id=channel.channel_id,
        bot_id=channel.bot_id,
        chat_id=client_id,
        sender=sender,
        content=content,
    )
    when = _time(hook.event_time)
    if when is not None:
        request.provider_time.CopyFrom(when)
    return request


def _attach(content: content_pb2.InboundContent, hook: Hook) -> None:
    for name, kind in _MEDIA.items():
        url = getattr(hook, name)
        if url:
            content.attachments.add(kind=kind, url=url[:2048])
    for file in (hook.attachments or ())[: 20 - len(content.attachments)]:
        link = file.link or file.url or ""
        if link and all(link != known.url for known in content.attachments):
            content.attachments.add(
                kind=content_pb2.ATTACHMENT_KIND_FILE, url=link[:2048], file_name=clean(file.name or "")[:512]
            )


def _status(channel: channel_pb2.Channel, hook: Hook) -> delivery_pb2.ReportStatusRequest:
    message_id = _required(hook.message_id, "message_id")
    said = hook.error or hook.errors
    word = clean(hook.status or "").lower()[:64]
    status = delivery_pb2.PROVIDER_STATUS_FAILED if said else _STATUSES.get(word, delivery_pb2.PROVIDER_STATUS_UNKNOWN)
    unknown = status == delivery_pb2.PROVIDER_STATUS_UNKNOWN
    name = word if unknown else delivery_pb2.ProviderStatus.Name(status)
    request = delivery_pb2.ReportStatusRequest(
        tenant_id=channel.tenant_id,
        channel_id=channel.channel_id,
        provider_message_id=message_id,
        status=status,
        error=clean(_words(said))[:1024],
        external_id=_part_id(hook.external_id),
        dedupe_key=f"outbox_status:{message_id}:{name}",
        word=word if unknown else "",
    )
    when = _time(hook.event_time)
    if when is None:
        request.at.GetCurrentTime()
    else:
        request.at.CopyFrom(when)
    return request


def _words(said: object, depth: int = 2) -> str:
    """What a hook says of an error, where it has its words for it."""
    if isinstance(said, dict) and depth:
        named = (said.get(name) for name in ("message", "description", "title", "code"))
        return ", ".join(words for each in named if (words := _words(each, depth - 1)))
    if isinstance(said, list) and depth:
        return "; ".join(words for each in said[:5] if (words := _words(each, depth - 1)))
    return str(said) if isinstance(said, str | int) and not isinstance(said, bool) else ""


_PART_ID = re.compile(r"[0-9a-f-]{36}(\.[0-9]{1,5}){1,2}")


def _part_id(external_id: str | int | None) -> str:
    """Our own id of a part, when the provider gives it back; anything else is another system's."""
    text = str(external_id or "")
    return text if _PART_ID.fullmatch(text) else ""


_STATUSES = {
    "sent": delivery_pb2.PROVIDER_STATUS_SENT,
    "delivered": delivery_pb2.PROVIDER_STATUS_DELIVERED,
    "read": delivery_pb2.PROVIDER_STATUS_READ,
    "failed": delivery_pb2.PROVIDER_STATUS_FAILED,
    "error": delivery_pb2.PROVIDER_STATUS_FAILED,
}


def _client_id(hook: Hook) -> int | str | None:
    if hook.client_id is not None:
        return hook.client_id
    return hook.client.id if hook.client is not None else None


def _required(value: int | str | None, field: str) -> str:
    text = clean(str(value)) if value is not None else ""
    if not text:
        raise Problem(422, "INVALID_FIELD", f"{field}: is missing", field)
    if len(text) > 128:
        raise Problem(422, "INVALID_FIELD", f"{field}: is longer than 128 characters", field)
    return text


def _time(text: str | None) -> Timestamp | None:
    """Chat2Desk writes `2025-01-31T12:00:00Z`; a time that cannot be read is left out, as ours is kept too."""
    if not text:
        return None
    stamp = Timestamp()
    try:
        when = datetime.fromisoformat(text)
        stamp.FromDatetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # the latter: a time zone that takes it out of the years 1 to 9999
        return None
    return stamp


def clean(text: str) -> str:
    """The text without NUL, which Postgres refuses."""
    return text.replace("\x00", "") if "\x00" in text else text
