"""What a provider is to the outbox: data and pure functions, in one module for each (see `registry`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from parley.common.v1.content_pb2 import OutboundContent

from services.delivery.domain.channels import Channel, ChannelKind, ProviderKind
from services.delivery.domain.failures import Failure
from services.delivery.domain.rendering import Capabilities, render
from services.delivery.providers.exchanges import Answer, Request


class Outbound(msgspec.Struct, frozen=True):
    """One part on its way. `part_id` is ours; a provider that echoes it lets unknown outcomes be resolved.

    `content` is one of the messages that the provider's `render` has made.
    """

    part_id: str
    chat_id: str
    content: OutboundContent


class Sent(msgspec.Struct, frozen=True):
    """The provider took it. Its id of the message is empty when it names none."""

    provider_message_id: str


class Signal(msgspec.Struct, frozen=True):
    """What a chat shows beside its messages: `preview` is the text of a reply so far; without one, somebody types."""

    chat_id: str
    preview: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """How messages reach people by one messenger. Nothing is tried again here, and nothing is remembered.

    `channels` is what its channels have, and `resource` the name under which limits knows its rate. `classify` gets the
    whole answer and the time at which it came, to read `Retry-After` by. `signal` asks for what a chat shows
    beside its messages; a messenger that has no such thing has none.
    """

    kind: ProviderKind
    channels: ChannelKind
    resource: str
    capabilities: Capabilities
    request: Callable[[Outbound, Channel], Request]
    classify: Callable[[Answer, Outbound, Channel, datetime], Sent | Failure]
    render: Callable[[OutboundContent, Capabilities], Sequence[OutboundContent]] = render
    signal: Callable[[Signal, Channel], Request] | None = None

    def rendered(self, content: OutboundContent) -> tuple[OutboundContent, ...]:
        """The messages that a content becomes, each one call."""
        return tuple(self.render(content, self.capabilities))
