"""What we read of a response's stream. The driver's own types of all events cost twice the time and 6 MB."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Part(msgspec.Struct):
    """A piece of a message."""

    type: str = ""
    text: str = ""
    refusal: str = ""


class Item(msgspec.Struct):
    """One thing that the model put out: a message, or a call of a tool, or its thoughts."""

    type: str = ""
    content: list[Part] | None = None


class CachedTokens(msgspec.Struct):
    """Details of the input's tokens."""

    cached_tokens: int | None = 0


class TokenUsage(msgspec.Struct):
    """Tokens of a call."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: CachedTokens | None = None

    @property
    def cached(self) -> int:
        """Input tokens that the endpoint had cached; other makers' endpoints leave the details out."""
        return (self.input_tokens_details and self.input_tokens_details.cached_tokens) or 0


class Reason(msgspec.Struct):
    """Why a response is incomplete."""

    reason: str | None = ""


class Trouble(msgspec.Struct):
    """Why a response failed."""

    code: str | None = ""


class ModelResponse(msgspec.Struct):
    """A response, as its last event has it."""

    id: str
    status: str
    model: str = ""
    output: list[Item] = []
    usage: TokenUsage | None = None
    incomplete_details: Reason | None = None
    error: Trouble | None = None

    def said(self, kind: str) -> str:
        """All text of the messages, or all of their refusals."""
        parts = (part for item in self.output if item.type == "message" for part in item.content or ())
        return "".join(part.refusal if kind == "refusal" else part.text for part in parts)


def read_response(event: Mapping[str, Any]) -> ModelResponse:
    """The response of an event. Raises msgspec.ValidationError."""
    return msgspec.convert(event.get("response"), ModelResponse)
