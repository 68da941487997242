"""Channels as delivery knows them."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class Provider(IntEnum):
    """Where messages go. The numbers are those of `parley.delivery.v1.Provider`."""

    API = 1
    CHAT2DESK = 2


@dataclass(frozen=True, slots=True)
class Channel:
    """A bot's connection to a provider, with its secrets in clear: it never leaves the process's memory.

    `key` names this channel for good: another channel that takes the id after a deletion has another key.
    """

    key: int
    tenant_id: str
    channel_id: str
    provider: Provider
    bot_id: str
    api_base: str
    enabled: bool
    broken_reason: str
    token: str
    webhook_secret: str
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def sends(self) -> bool:
        """Whether parts may go out now."""
        return self.enabled and not self.broken_reason

    def __repr__(self) -> str:
        return f"Channel({self.tenant_id}/{self.channel_id} revision {self.revision})"


@dataclass(frozen=True, slots=True)
class Deleted:
    """A channel is gone."""

    key: int
    channel_id: str


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """What of a channel can be changed; None leaves it as it is."""

    bot_id: str | None = None
    api_base: str | None = None
    token: str | None = None
    webhook_secret: str | None = None
    enabled: bool | None = None
    broken_reason: str | None = None

    def __repr__(self) -> str:
        return "ChannelValues(...)"


def carries_token_away(channel: Channel, values: ChannelValues) -> bool:
    """Whether a change would show the stored token to another address: who wants that must know the token."""
    moves = values.api_base is not None and values.api_base != channel.api_base
    return moves and bool(channel.token) and not values.token
