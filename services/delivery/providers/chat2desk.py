"""Chat2Desk: `POST {api_base}/v1/messages` with the token as it is in `Authorization`."""

from typing import Any

import msgspec

from services.delivery.domain.channels import Channel, ChannelKind, Secret, Settings
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.scrubbing import scrub
from services.delivery.providers.base import Limits, Outbound, Sent
from services.delivery.providers.classify import failure_of, failure_without_answer
from services.delivery.providers.http import HttpClient
from services.delivery.providers.wire import Answer, Target
from services.kernel.clock import Clock

API_BASE = "https://api.chat2desk.com"


class Chat2DeskSettings(Settings, frozen=True):
    """`parley.delivery.v1.Chat2DeskSettings`."""

    api_base: str = ""


KIND = ChannelKind(
    Chat2DeskSettings,
    (Secret("token"), Secret("webhook_secret", edge=True, made=True, pattern="[A-Za-z0-9_-]{1,256}")),
)
_FIELDS = ("client_id", "text", "attachment", "type", "transport", "channel_id", "operator_id", "external_id", "base")
"""Fields of a message that `errors` may name."""
_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    """Body of the call."""

    client_id: str
    text: str
    external_id: str
    type: str = "to_client"


class Chat2Desk:
    """Sends to Chat2Desk clients. `client_id` is the conversation's chat id, `external_id` the part's."""

    limits = Limits(max_text=4096, resource="provider.chat2desk")

    def __init__(self, http: HttpClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._targets: dict[str, Target] = {}

    @property
    def timeout(self) -> float:
        return self._http.timeout

    async def send(self, outbound: Outbound, channel: Channel) -> Sent | Failure:
        """One call. A 2xx is sent, unless the body says `error`."""
        body = _encode(_Message(outbound.chat_id, outbound.text, outbound.part_id))
        headers = {"Authorization": channel.token, "Content-Type": "application/json"}
        try:
            target = self._target(channel.api_base)
        except ValueError as wrong:
            return Failure(FailureKind.FATAL, 0, f"api_base: {wrong}")
        result = await self._http.post(target, headers=headers, body=body)
        if not isinstance(result, Answer):
            return failure_without_answer(result)
        answer = _read(result.body)
        if 200 <= result.status < 300 and answer.get("status") != "error":
            return Sent(_message_id(answer))
        error = scrub(_error(answer), (outbound.text, channel.token, outbound.chat_id))
        if result.status < 300:
            return Failure(FailureKind.TERMINAL, result.status, error)
        return failure_of(result.status, result.headers, error, self._clock.now())

    def _target(self, api_base: str) -> Target:
        target = self._targets.get(api_base)
        if target is None:
            if len(self._targets) > 1000:
                self._targets.clear()
            target = self._targets[api_base] = Target.of(f"{api_base or API_BASE}/v1/messages")
        return target


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
