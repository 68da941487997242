"""Chat2Desk's hooks: `inbox` (a person wrote), `outbox` (an echo of what was sent), `outbox_status` (what became of
it), and others about dialogs, tags and the like."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

from services.edge.problems import Problem
from services.edge.providers.base import Documentation, Event, Head, Provider, Secrets
from services.edge.providers.proofs import secret_matches
from services.edge.reading import clean, decode, required, timestamp

_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{6,20}")
_MEDIA = {
    "photo": content_pb2.ATTACHMENT_KIND_IMAGE,
    "audio": content_pb2.ATTACHMENT_KIND_AUDIO,
    "video": content_pb2.ATTACHMENT_KIND_VIDEO,
    "pdf": content_pb2.ATTACHMENT_KIND_FILE,
}


_Id = int | str | None


class Chat2DeskClient(msgspec.Struct):
    """The person, as Chat2Desk knows them."""

    id: Annotated[_Id, Meta(description="The person.")] = None
    phone: Annotated[str | int | None, Meta(description="Their phone number.")] = None
    name: Annotated[str | None, Meta(description="Their name.")] = None


class Chat2DeskFile(msgspec.Struct):
    """One entry of `attachments`."""

    link: Annotated[str | None, Meta(description="Its address.")] = None
    url: Annotated[str | None, Meta(description="Its address, when `link` is absent.")] = None
    name: Annotated[str | None, Meta(description="Its name.")] = None


class Chat2DeskHook(msgspec.Struct):
    """The fields of a hook that Parley reads."""

    hook_type: Annotated[str, Meta(description="What happened.", examples=["inbox", "outbox", "outbox_status"])] = ""
    type: Annotated[
        str, Meta(description="Of a message: `from_client` when a person wrote it.", examples=["from_client"])
    ] = ""
    message_id: Annotated[_Id, Meta(description="Chat2Desk's id; processed once per id and hook.")] = None
    client_id: Annotated[_Id, Meta(description="The person; `client.id` when absent.")] = None
    text: Annotated[str | None, Meta(description="What the person wrote, 65,536 characters at most.")] = None
    photo: Annotated[str | None, Meta(description="Address of a picture.")] = None
    audio: Annotated[str | None, Meta(description="Address of a recording.")] = None
    video: Annotated[str | None, Meta(description="Address of a video.")] = None
    pdf: Annotated[str | None, Meta(description="Address of a document.")] = None
    client: Annotated[Chat2DeskClient | None, Meta(description="The person, as Chat2Desk knows them.")] = None
    attachments: Annotated[list[Chat2DeskFile] | None, Meta(description="Further files, 20 at most.")] = None
    event_time: Annotated[str | None, Meta(description="When it happened, in RFC 3339.")] = None
    external_id: Annotated[_Id, Meta(description="Of `outbox_status`: our own id of the part, given back.")] = None
    status: Annotated[
        str | None,
        Meta(description="Of `outbox_status`: what became of the reply.", examples=["sent", "delivered", "read"]),
    ] = None
    error: Annotated[Any, Meta(description="Of `outbox_status`: why the reply failed.")] = None
    errors: Annotated[Any, Meta(description="The same under its other name.")] = None


_decoder = msgspec.json.Decoder(Chat2DeskHook)


def authenticate(head: Head, _: bytes, secrets: Secrets) -> bool:
    """Whether the secret stands in the address or in the header."""
    return secret_matches(secrets.get("webhook_secret", ""), *head.header(b"x-webhook-secret"), *head.query("secret"))


def translate(channel: channel_pb2.Channel, body: bytes) -> Sequence[Event]:
    """The one thing that a hook says; nothing for the echo of our own message."""
    hook = decode(_decoder, body, not_json=400)
    kind = hook.hook_type or ("inbox" if hook.type == "from_client" else hook.type)
    if kind == "outbox" or (kind == "inbox" and hook.type not in ("", "from_client")):
        return []
    if kind == "outbox_status":
        return [_status(channel, hook)]
    if not kind:
        raise Problem(422, "INVALID_FIELD", "hook_type: is missing", "hook_type")
    return [_message(channel, hook) if kind == "inbox" else _unsupported(channel, hook, kind, body)]


def _message(channel: channel_pb2.Channel, hook: Chat2DeskHook) -> dialog_pb2.SubmitMessageRequest:
    message_id = required(hook.message_id, "message_id")
    request = _submit(channel, hook, required(_client_id(hook), "client_id"))
    request.provider_message_id = message_id
    request.dedupe_key = f"inbox:{message_id}"
    content = request.content
    if not (content.text or content.attachments):
        request.rejection = dialog_pb2.REJECTION_REASON_UNSUPPORTED
    return request


def _unsupported(
    channel: channel_pb2.Channel, hook: Chat2DeskHook, kind: str, body: bytes
) -> dialog_pb2.SubmitMessageRequest:
    request = _submit(channel, hook, clean(str(_client_id(hook) or ""))[:128] or "unknown")
    request.dedupe_key = f"{clean(kind)[:64]}:{hashlib.sha256(body).hexdigest()}"
    request.rejection = dialog_pb2.REJECTION_REASON_UNSUPPORTED
    return request


def _submit(channel: channel_pb2.Channel, hook: Chat2DeskHook, client_id: str) -> dialog_pb2.SubmitMessageRequest:
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
    return dialog_pb2.SubmitMessageRequest(
        tenant_id=channel.tenant_id,
        channel_id=channel.channel_id,
        bot_id=channel.bot_id,
        chat_id=client_id,
        sender=sender,
        content=content,
        provider_time=timestamp(hook.event_time),
    )


def _attach(content: content_pb2.InboundContent, hook: Chat2DeskHook) -> None:
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


def _status(channel: channel_pb2.Channel, hook: Chat2DeskHook) -> delivery_pb2.ReportStatusRequest:
    message_id = required(hook.message_id, "message_id")
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
    when = timestamp(hook.event_time)
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


def _client_id(hook: Chat2DeskHook) -> int | str | None:
    if hook.client_id is not None:
        return hook.client_id
    return hook.client.id if hook.client is not None else None


PROVIDER = Provider(
    name="chat2desk",
    kind=channel_pb2.PROVIDER_CHAT2DESK,
    authenticate=authenticate,
    translate=translate,
    unproven="The webhook secret is missing or wrong; give it as `?secret=` or header `X-Webhook-Secret`.",
    documentation=Documentation(
        summary="Takes in a hook of Chat2Desk.",
        description="`inbox` is a person's message, `outbox_status` tells what became of a reply, `outbox` is an echo "
        "and ignored; other hooks are stored as rejected.",
        body=Chat2DeskHook,
        example={
            "hook_type": "inbox",
            "type": "from_client",
            "message_id": 3001,
            "client_id": 77,
            "text": "Здравствуйте",
            "client": {"id": 77, "name": "Айгуль", "phone": "+996555123456"},
            "event_time": "2026-11-21T08:00:00Z",
        },
        schemes={
            "secret_in_header": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Webhook-Secret",
                "description": "The channel's webhook secret.",
            },
            "secret_in_address": {
                "type": "apiKey",
                "in": "query",
                "name": "secret",
                "description": "The channel's webhook secret, for providers that send no header of ours.",
            },
        },
        curl='curl -sS "{url}?secret=$SECRET"',
        id_field="message_id",
    ),
)
