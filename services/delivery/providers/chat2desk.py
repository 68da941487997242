"""Chat2Desk: `POST {api_base}/v1/messages` with the token as it is in `Authorization`."""

from datetime import datetime
from typing import Any

import msgspec

from services.delivery.domain.channels import Channel, ChannelKind, ProviderKind, Secret, Settings
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.rendering import Capabilities
from services.delivery.domain.scrubbing import scrub
from services.delivery.providers.base import Outbound, Provider, Sent
from services.delivery.providers.classify import failure_of
from services.delivery.providers.exchanges import Answer, Request

API_BASE = "https://api.chat2desk.com"


class Chat2DeskSettings(Settings, frozen=True):
    """`parley.delivery.v1.Chat2DeskSettings`."""

    api_base: str = ""


_FIELDS = ("client_id", "text", "attachment", "type", "transport", "channel_id", "operator_id", "external_id", "base")
"""Fields of a message that `errors` may name."""
_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    """Body of the call."""

    client_id: str
    text: str
    external_id: str
    type: str = "to_client"


def request(outbound: Outbound, channel: Channel) -> Request:
    """`client_id` is the conversation's chat id, `external_id` the part's."""
    body = _encode(_Message(outbound.chat_id, outbound.content.text, outbound.part_id))
    headers = {"Authorization": channel.token, "Content-Type": "application/json"}
    return Request(f"{channel.api_base or API_BASE}/v1/messages", headers, body)


def classify(answer: Answer, outbound: Outbound, channel: Channel, now: datetime) -> Sent | Failure:
    """A 2xx is sent, unless the body says `error`."""
    body = _read(answer.body)
    if 200 <= answer.status < 300 and body.get("status") != "error":
        return Sent(_message_id(body))
    error = scrub(_error(body), (outbound.content.text, channel.token, outbound.chat_id))
    if answer.status < 300:
        return Failure(FailureKind.TERMINAL, answer.status, error)
    return failure_of(answer.status, answer.headers, error, now)


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested too deeply to be meant
        return {}
    return answer if isinstance(answer, dict) else {}


def _message_id(answer: dict[str, Any]) -> str:
    data = answer.get("data")
    found = data.get("message_id", data.get("id")) if isinstance(data, dict) else None
    return str(found).replace("\x00", "")[:256] if isinstance(found, int | str) else ""  # PostgreSQL takes no NUL


def _error(answer: dict[str, Any]) -> str:
    """The provider's own words, of the fields that it has for them; an answer of another shape says nothing."""
    for name in ("message", "error"):
        if isinstance(answer.get(name), str) and answer[name]:
            return str(answer[name])
    errors = answer.get("errors")
    if isinstance(errors, dict):
        return "; ".join(f"{name}: {words}" for name in _FIELDS if (words := _sentence(errors.get(name))))
    return _sentence(errors)


def _sentence(words: object) -> str:
    if isinstance(words, str):
        return words
    return ", ".join(word for word in words if isinstance(word, str)) if isinstance(words, list) else ""


PROVIDER = Provider(
    kind=ProviderKind.CHAT2DESK,
    channels=ChannelKind(
        Chat2DeskSettings,
        (Secret("token"), Secret("webhook_secret", edge=True, made=True, pattern="[A-Za-z0-9_-]{1,256}")),
    ),
    resource="provider.chat2desk",
    capabilities=Capabilities(max_text=4096),
    request=request,
    classify=classify,
)
