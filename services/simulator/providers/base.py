"""What a provider is to the simulator: data and pure functions, in one module for each (see `registry`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request

from services.simulator.calls import Call

Body = Mapping[str, Any]
"""The JSON object of a request."""


class Sent(NamedTuple):
    """A message that a caller wants to send."""

    client_id: str
    text: str
    token: str


class Say(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /say`: what a person writes."""

    webhook_url: str
    client_id: int | str
    provider: str = "chat2desk"
    text: str = ""
    message_id: int | str | None = None
    name: str = "Тест"
    phone: str = ""
    attachments: list[dict[str, Any]] = []
    hook_type: str = "inbox"
    copies: int = 1
    delay: float = 0.0
    wait: float = 0.0


@dataclass(frozen=True)
class Provider:
    """How one messenger speaks HTTP. Calls, faults, tokens and waiting are the same for all (see `Messenger`)."""

    name: str
    path: str
    """The route of the POST that sends a message."""
    read: Callable[[Request, Body], Sent]
    refuse: Callable[[Sent, Body], Any]
    """The JSON that is answered with 400 to a message that the real one does not take; None for a good one."""
    accept: Callable[[Call, Body], Any]
    """The JSON that is answered to a good message."""
    error: Callable[[str], Any]
    """The JSON of an error with that message."""
    webhook: Callable[[Say, int | str], Any]
    """The JSON of the webhook for what a person writes, with the id of the message."""
