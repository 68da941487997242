"""Stores messages to send: many callers, one commit."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

import asyncpg

from parley.common.v1.content_pb2 import OutboundContent

from parley_client.coalesce import Coalescer
from services.delivery.domain import deliveries
from services.delivery.domain.outbox import NewDelivery, Queued, Stored
from services.delivery.postgres.batching import batched
from services.delivery.postgres.outbox import NEW, QUERIES, NewRow
from services.delivery.postgres.sealing import Contents, Sealing
from services.delivery.usecases.handover import Handover, Offer
from services.kernel.errors import Kind, ParleyError, not_found
from services.runtime.crashpoints import reach
from services.runtime.lanes import Lease
from services.runtime.logs import describe, get_logger

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

log = get_logger(__name__)


class PostgresSendStore:
    """`SendStore` on Postgres. `stored` is called after each commit that leaves something to workers, to wake them.

    Lanes that are handed over are leased to `holder` for `ttl`.
    """

    def __init__(
        self,
        pool: "Pool",
        sealing: Sealing,
        handover: Handover,
        *,
        holder: str,
        ttl: timedelta,
        stored: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._sealing = sealing
        self._handover = handover
        self._holder = holder
        self._ttl = ttl
        self._stored = stored
        self._stores: Coalescer[NewDelivery, Stored] = batched(self._store_all, max_in_flight=2)

    async def store(self, items: Sequence[NewDelivery]) -> Sequence[Stored | ParleyError]:
        """WaitReasons for the commit that carries the items, together with those of other calls."""
        waiting = [self._stores.submit(item) for item in items]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ParleyError):
                raise result
        return cast("list[Stored | ParleyError]", results)

    async def _store_all(self, items: list[NewDelivery]) -> Sequence[Stored | Exception]:
        reach("delivery.before_store")
        firsts: dict[_Key, NewDelivery] = {}
        for item in items:
            firsts.setdefault((item.tenant_id, item.request_id), item)
        new = list(firsts.values())
        offers = self._handover.offer(new)
        try:
            rows = await self._insert(new, offers)
        except BaseException:
            for offer in offers:
                self._handover.failed(offer)
            raise
        reach("delivery.after_stored")
        if not self._hand_over(new, offers, rows):
            self._stored()
        if len(rows) == len(items):
            return [Stored(item.delivery_id, False) for item in items]
        return await self._with_known(items, firsts, rows)

    async def _insert(self, items: Sequence[NewDelivery], offers: Sequence[Offer]) -> "_Rows":
        """The rows of those that are new: one statement."""
        offered = {offer.item.delivery_id: offer for offer in offers}
        new = NEW.arguments([self._row(item, offered.get(item.delivery_id)) for item in items])
        arguments = (*new, self._holder, self._ttl.total_seconds())
        try:
            rows = await self._pool.fetch(QUERIES["store"], *arguments)
        except asyncpg.UniqueViolationError:
            # Somebody else stored one of these request ids between our look and our insert.
            rows = await self._pool.fetch(QUERIES["store"], *arguments)
        return {delivery_id: _StoredRow(*rest) for delivery_id, *rest in rows}

    def _hand_over(self, items: Sequence[NewDelivery], offers: Sequence[Offer], rows: "_Rows") -> bool:
        """Gives this process what it has offered to do, where the lane was idle. Whether nothing is left to others."""
        stored: dict[UUID, list[NewDelivery]] = {}
        for item in items:
            if item.delivery_id in rows:
                stored.setdefault(item.lane_id, []).append(item)
        left = len(rows)
        for offer in offers:
            first = rows.get(offer.item.delivery_id)
            if first is None or not first.begun:
                self._handover.declined(offer)
                continue
            reach("delivery.after_hot_store")
            waiting = [_queued(item, rows[item.delivery_id], offer) for item in stored[offer.item.lane_id]]
            left -= len(waiting)
            self._handover.taken(offer, _lease(offer, first, len(waiting)), waiting)
        return left == 0 and bool(rows)

    async def _with_known(
        self, items: Sequence[NewDelivery], firsts: Mapping["_Key", NewDelivery], rows: "_Rows"
    ) -> Sequence[Stored | ParleyError]:
        """A second statement for what is not new."""
        known = {key: _Known.of(first) for key, first in firsts.items() if first.delivery_id in rows}
        missing = [key for key, first in firsts.items() if first.delivery_id not in rows]
        for tenant_id, request_id, *found in await self._pool.fetch(QUERIES["known"], *_split(missing)):
            key = tenant_id, request_id
            known[key] = self._known(tenant_id, *found) if found[1] is not None else _Known.gone(found[0], firsts[key])
        return [_result(item, known.get((item.tenant_id, item.request_id))) for item in items]

    def _known(self, tenant_id: str, delivery_id: UUID, *rest: Any) -> "_Known":
        channel_id, conversation_id, chat_id, *stored = rest
        content: OutboundContent | None = None
        try:
            content = self._sealing.open_contents(tenant_id, delivery_id, stored).content
        except Exception as error:
            log.error("a stored text cannot be opened", delivery_id=str(delivery_id), error=describe(error), alert=True)
        return _Known(delivery_id, channel_id, conversation_id, chat_id, content)

    def _row(self, item: NewDelivery, offer: Offer | None) -> NewRow:
        sealed = self._sealing.contents(item.tenant_id, item.delivery_id, Contents(item.content, item.rendered))
        return NewRow(
            item.delivery_id,
            item.tenant_id,
            item.request_id,
            item.channel_key,
            item.channel_id,
            item.conversation_id,
            item.chat_id,
            item.message_id,
            item.reply_index,
            sealed.text,
            sealed.content,
            deliveries.to_json(deliveries.fresh(len(item.rendered))) if len(item.rendered) > 1 else None,
            item.traceparent,
            item.tracestate,
            item.lane_id,
            None if offer is None else deliveries.to_json(offer.parts),
            item.priority,
        )


class _StoredRow(NamedTuple):
    """What was stored: the delivery's place, and its lane as it is with it. `begun`: the lane is ours."""

    seq: int
    begun: bool
    fence: int
    lease_until: datetime


_Key = tuple[str, str]
"""Tenant and request id."""
_Rows = dict[UUID, _StoredRow]
"""By the delivery's id."""


def _lease(offer: Offer, first: _StoredRow, pending: int) -> Lease:
    """Of a lane that was idle before: nothing was tried or lost in it."""
    item = offer.item
    return Lease(
        lane_id=item.lane_id,
        tenant_id=item.tenant_id,
        fence=first.fence,
        pending=pending,
        done_seq=first.seq - 1,
        attempts=1,
        data_version=0,
        lease_until=first.lease_until,
        expired=False,
        share=offer.share[1],
    )


def _queued(item: NewDelivery, row: _StoredRow, offer: Offer) -> Queued:
    """As its worker would read it."""
    return Queued(
        item.delivery_id,
        item.tenant_id,
        row.seq,
        item.channel_key,
        item.chat_id,
        item.message_id,
        item.reply_index,
        item.rendered,
        item.traceparent,
        item.tracestate,
        revision=0,
        parts=offer.parts if row.begun else deliveries.fresh(len(item.rendered)),
        priority=item.priority,
    )


class _Known(NamedTuple):
    """What is stored under a request id."""

    delivery_id: UUID
    channel_id: str
    conversation_id: UUID
    chat_id: str
    content: OutboundContent | None
    """None when it does not open: then it may be the same."""

    @staticmethod
    def of(item: NewDelivery) -> "_Known":
        return _Known(item.delivery_id, item.channel_id, item.conversation_id, item.chat_id, item.content)

    @staticmethod
    def gone(delivery_id: UUID, item: NewDelivery) -> "_Known":
        """A delivery that is not kept any more: what it was cannot be compared."""
        return _Known.of(item)._replace(delivery_id=delivery_id)


def _result(item: NewDelivery, known: _Known | None) -> Stored | ParleyError:
    if known is None:
        return not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", item.channel_id)
    if known.content is None:
        known = known._replace(content=item.content)
    if known[1:] != _Known.of(item)[1:]:
        return _reused(item.request_id)
    return Stored(known.delivery_id, known.delivery_id != item.delivery_id)


def _split(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in keys], [request_id for _, request_id in keys]


def _reused(request_id: str) -> ParleyError:
    message = f"The request id {request_id!r} was used before for another message."
    return ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message, metadata={"request_id": request_id})
