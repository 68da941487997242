"""Takes messages into the outbox."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from opentelemetry.context import Context

from services.delivery.domain.channels import Channel
from services.delivery.domain.channels import Provider as ProviderKind
from services.delivery.domain.outbox import NewDelivery, Stored, lane_of
from services.delivery.domain.splitting import split
from services.delivery.providers.base import Limits
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
    text: str
    request_id: str
    message_id: str
    reply_index: int


class SendMessages:
    """Stores messages durably, once per request id, cut into what the channel's provider takes."""

    def __init__(self, store: SendStore, channels: Channels, limits: Mapping[ProviderKind, Limits]) -> None:
        self._store = store
        self._channels = channels
        self._limits = limits

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
                channel, limits = self._channel(item)
                delivery_id = uuid7()
                span, headers = spans.stored(parent, item.tenant_id, str(delivery_id), item.message_id)
                opened.append(span)
                ready.append(_new(item, channel, limits, delivery_id, headers))
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

    def _channel(self, item: ToSend) -> tuple[Channel, Limits]:
        channel = self._channels.by_id(item.channel_id)
        if channel is None or channel.tenant_id != item.tenant_id:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", item.channel_id)
        limits = self._limits.get(channel.provider)
        if limits is None:
            message = f"The channel {channel.channel_id!r} has no provider to send by: its callers get their replies."
            raise wrong_state(message, channel.provider.name.lower())
        return channel, limits


def _new(item: ToSend, channel: Channel, limits: Limits, delivery_id: UUID, headers: spans.Headers) -> NewDelivery:
    # A text that fits in UTF-16 units however it is made needs no second look.
    cuts = None if 2 * len(item.text) <= limits.max_text else _cuts(item.text, limits.max_text)
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
        item.text,
        cuts,
        *headers,
        lane_of(channel.key, conversation_id),
    )


def _cuts(text: str, limit: int) -> tuple[int, ...] | None:
    cuts = split(text, limit)
    if cuts == [(0, len(text))]:
        return None
    return tuple(place for cut in cuts for place in cut)


def _message_id(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid_field("message_id", "is not a UUID") from None
