"""Channels as delivery knows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

import msgspec


class ProviderKind(IntEnum):
    """Where messages go. The numbers are those of `parley.delivery.v1.Provider`."""

    API = 1
    CHAT2DESK = 2


class Settings(msgspec.Struct, frozen=True):
    """The settings of a channel; each provider has its own kind, with the fields of its message in `ChannelSettings`.

    All fields have defaults. Most kinds have an `api_base`.
    """


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that each channel of a provider has."""

    name: str
    edge: bool = False
    """Edges prove the provider's webhooks by it. All other secrets are sent to the channel's address."""
    made: bool = False
    """It is made when none is given."""
    pattern: str = r"[\x21-\x7e]{1,1024}"


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """What the channels of one provider have. This is data of the provider's module."""

    settings: type[Settings]
    secrets: tuple[Secret, ...] = ()

    def of_edge(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The secrets that edges need."""
        return {secret.name: secrets[secret.name] for secret in self.secrets if secret.edge and secret.name in secrets}


@dataclass(frozen=True, slots=True)
class Channel:
    """A bot's connection to a provider, with its secrets in clear: it never leaves the process's memory.

    `key` names this channel for good: another channel that takes the id after a deletion has another key.
    """

    key: int
    tenant_id: str
    channel_id: str
    provider: ProviderKind
    bot_id: str
    settings: Settings
    enabled: bool
    broken_reason: str
    secrets: Mapping[str, str] = field(hash=False)
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def api_base(self) -> str:
        """Address of the provider's API; empty for the provider's own, or when it has none."""
        return api_base_of(self.settings)

    @property
    def token(self) -> str:
        """What the provider's API asks of us; empty when none is stored."""
        return self.secrets.get("token", "")

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
    """What of a channel can be changed. None leaves a value as it is, and so does a secret that is not named."""

    bot_id: str | None = None
    settings: Settings | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    enabled: bool | None = None
    broken_reason: str | None = None

    def __repr__(self) -> str:
        return "ChannelValues(...)"


def api_base_of(settings: Settings) -> str:
    """The address that settings name; empty when they name none."""
    return str(getattr(settings, "api_base", ""))


def carried_away(channel: Channel, kind: ChannelKind, values: ChannelValues) -> str:
    """The stored secret that a change would show to another address; empty when there is none.

    Who wants to move a channel must know the secrets that are sent to its address.
    """
    if values.settings is None or api_base_of(values.settings) == channel.api_base:
        return ""
    sent = (secret.name for secret in kind.secrets if not secret.edge)
    return next((name for name in sent if channel.secrets.get(name) and name not in values.secrets), "")
