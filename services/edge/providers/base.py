"""What a provider is to the edge: data and pure functions, in one module for each (see `registry`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

Secrets = Mapping[str, str]
"""A channel's secrets that prove its webhooks, by name."""
Event = dialog_pb2.SubmitMessageRequest | delivery_pb2.ReportStatusRequest
"""What happened: a person wrote (something we do not support is a message with a `rejection`), or a reply fared so."""


class Stored(NamedTuple):
    """One event is stored. The id is ours; None for an event that is no message."""

    message_id: str | None
    duplicate: bool


class Head(NamedTuple):
    """What stands before a request's body."""

    headers: Sequence[tuple[bytes, bytes]]
    query_string: bytes

    def header(self, name: bytes) -> list[str]:
        """All values of a header, which is named in lower case."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def query(self, name: str) -> list[str]:
        """All values of a parameter of the address."""
        if name.encode() not in self.query_string:
            return []
        return parse_qs(self.query_string.decode("latin-1")).get(name, [])


@dataclass(frozen=True)
class Documentation:
    """What the OpenAPI document says of a provider's webhook."""

    summary: str
    description: str
    body: type[msgspec.Struct]
    example: Mapping[str, Any]
    schemes: Mapping[str, Mapping[str, str]]
    """OpenAPI security schemes, each of which is proof enough."""
    curl: str
    """A shell command that proves itself; `{url}` is the webhook's address, `$SECRET` the demo channel's secret."""
    id_field: str
    """The number by which the example is told from a duplicate."""


def first_message(stored: Sequence[Stored]) -> bytes:
    """The first event's id, and whether it was stored before; no id when the body said nothing new."""
    message_id, duplicate = stored[0] if stored else (None, False)
    return msgspec.json.encode({"message_id": message_id, "duplicate": duplicate})


@dataclass(frozen=True)
class Provider:
    """How one messenger's webhooks are understood. Nothing is stored here, and nothing remembered."""

    name: str
    """In the address: `/webhooks/<name>/{channel_id}`."""
    kind: channel_pb2.Provider.ValueType
    authenticate: Callable[[Head, bytes, Secrets], bool]
    """Whether the provider sent this. The bytes are the body as it came."""
    translate: Callable[[channel_pb2.Channel, bytes], Sequence[Event]]
    """What a body says, in its order; nothing when it says nothing new. Raises Problem: 400 when it is not JSON, 422
    with the field's name when a field is missing or wrong. A provider that puts several events into one body leaves
    none of them out because of another."""
    unproven: str
    """What is answered to a caller that is not authentic: how it can prove itself."""
    documentation: Documentation
    signs_body: bool = False
    """The proof covers the body. Otherwise it is checked before the body is read, with no bytes."""
    handshake: Callable[[Head, Secrets], str | None] | None = None
    """What is answered to the GET by which the provider checks the address; None when it is not authentic."""
    answer: Callable[[Sequence[Stored]], bytes] = first_message
    """The JSON that is answered when all events are stored."""
