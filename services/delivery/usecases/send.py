"""Takes messages into the outbox."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from opentelemetry.context import Context

from parley.common.v1.content_pb2 import OutboundContent

from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.outbox import NewDelivery, Priority, Stored, lane_of
from services.delivery.providers.base import Provider
from services.delivery.usecases import spans
from services.delivery.usecases.ports import Channels, SendStore
from services.kernel.errors import ParleyError, invalid_field, not_found, wrong_state
from services.kernel.ids import uuid7


class ToSend(msgspec.Struct, frozen=True):
    """A message as its sender asks for it."""

    tenant_id: str
    channel_id: str
    conversation_id: str
    chat_id: str
    content: OutboundContent
    request_id: str
    message_id: str
    reply_index: int
    priority: Priority = Priority.REPLY


class SendMessages:
    """Stores messages durably, once per request id, as the messages that the channel's provider shows."""

    def __init__(self, store: SendStore, channels: Channels, providers: Mapping[ProviderKind, Provider]) -> None:
        self._store = store
        self._channels = channels
        self._providers = providers

    async def __call__(
        self, items: Sequence[ToSend], parents: Sequence[Context | None]
    ) -> Sequence[Stored | ParleyError]:
        """A result per item. Items fail with CHANNEL_NOT_FOUND, WRONG_STATE, INVALID_FIELD, REQUEST_ID_REUSED.

        `parents`: the trace contexts of the items. A channel of another tenant is no channel.
        """
        if any(self._channels.by_id(item.channel_id) is None for item in items):
            await self._channels.refresh()
        results: list[Stored | ParleyError | None] = [None] * len(items)
        ready: list[NewDelivery] = []
        places: list[int] = []
        opened = []
        for place, (item, parent) in enumerate(zip(items, parents, strict=True)):
            try:
                channel, provider = self._route(item)
                delivery_id = uuid7()
                span, headers = spans.stored(parent, item.tenant_id, str(delivery_id), item.message_id)
                opened.append(span)
                ready.append(_new(item, channel, provider, delivery_id, headers))
                places.append(place)
            except ParleyError as error:
                results[place] = error
        try:
            stored = await self._store.store(ready) if ready else ()
        except BaseException as error:
            for span in opened:
                spans.failed(span, error)
            raise
        finally:
            for span in opened:
                span.end()
        for place, result in zip(places, stored, strict=True):
            results[place] = result
        return [result for result in results if result is not None]

    def _route(self, item: ToSend) -> tuple[Channel, Provider]:
        channel = self._channels.by_id(item.channel_id)
        if channel is None or channel.tenant_id != item.tenant_id:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", item.channel_id)
        provider = self._providers.get(channel.provider)
        if provider is None:
            message = f"The channel {channel.channel_id!r} has no provider to send by: its callers get their replies."
            raise wrong_state(message, channel.provider.name.lower())
        return channel, provider


def _new(item: ToSend, channel: Channel, provider: Provider, delivery_id: UUID, headers: spans.Headers) -> NewDelivery:
    conversation_id = UUID(item.conversation_id)
    return NewDelivery(
        delivery_id,
        item.tenant_id,
        item.request_id,
        channel.key,
        channel.channel_id,
        conversation_id,
        item.chat_id,
        _message_id(item.message_id),
        item.reply_index,
        item.content,
        provider.rendered(item.content),
        *headers,
        lane_of(channel.key, conversation_id),
        item.priority,
    )


def _message_id(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid_field("message_id", "is not a UUID") from None
