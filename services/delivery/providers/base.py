"""What a provider is to the outbox."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from services.delivery.domain.channels import Channel
from services.delivery.domain.failures import Failure


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider takes: `max_text` UTF-16 units a call, at the rate that limits knows as `resource`."""

    max_text: int
    resource: str


class Outbound(msgspec.Struct, frozen=True):
    """One part on its way. `part_id` is ours; a provider that echoes it lets unknown outcomes be resolved."""

    part_id: str
    chat_id: str
    text: str


class Sent(msgspec.Struct, frozen=True):
    """The provider took it. Its id of the message is empty when it names none."""

    provider_message_id: str


class Provider(Protocol):
    """Sends to one messenger."""

    @property
    def limits(self) -> Limits: ...

    @property
    def timeout(self) -> float:
        """Seconds within which `send` ends in any case."""

    async def send(self, outbound: Outbound, channel: Channel) -> Sent | Failure:
        """One call. Failures are returned, classified; nothing is tried again here."""
