"""Stores messages to send: many callers, one commit."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

import asyncpg

from parley_client.coalesce import Coalescer
from services.delivery.domain.outbox import NewDelivery, Stored
from services.delivery.postgres.gathered import gathered
from services.delivery.postgres.sealing import Sealing
from services.kernel.errors import Kind, ParleyError, not_found
from services.runtime.crashpoints import reach
from services.runtime.crypto import CannotOpen
from services.runtime.logs import describe, get_logger
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

QUERIES = load_queries(Path(__file__).parent / "outbox.sql")
log = get_logger(__name__)


class PostgresSendStore:
    """`SendStore` on Postgres. `stored` is called after each commit, to wake workers."""

    def __init__(self, pool: "Pool", sealing: Sealing, *, stored: Callable[[], None]) -> None:
        self._pool = pool
        self._sealing = sealing
        self._stored = stored
        self._gathered: Coalescer[NewDelivery, Stored] = gathered(self._store_all, max_in_flight=2)

    async def store(self, items: Sequence[NewDelivery]) -> Sequence[Stored | ParleyError]:
        """Waits for the commit that carries the items, together with those of other calls."""
        waiting = [self._gathered.submit(item) for item in items]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ParleyError):
                raise result
        return cast("list[Stored | ParleyError]", results)

    async def _store_all(self, items: list[NewDelivery]) -> Sequence[Stored | Exception]:
        reach("delivery.before_store")
        try:
            results = await self._commit(items)
        except asyncpg.UniqueViolationError:
            # Somebody else stored one of these request ids between our look and our insert.
            results = await self._commit(items)
        reach("delivery.after_stored")
        self._stored()
        return results

    async def _commit(self, items: Sequence[NewDelivery]) -> Sequence[Stored | ParleyError]:
        """One statement for what is new; a second one only when something is not."""
        firsts: dict[tuple[str, str], NewDelivery] = {}
        for item in items:
            firsts.setdefault((item.tenant_id, item.request_id), item)
        rows = await self._pool.fetch(QUERIES["store"], *self._columns(list(firsts.values())))
        stored = {row[0] for row in rows}
        if len(stored) == len(items):
            return [Stored(item.delivery_id, False) for item in items]
        known = {key: _Known.of(first) for key, first in firsts.items() if first.delivery_id in stored}
        missing = [key for key, first in firsts.items() if first.delivery_id not in stored]
        for tenant_id, request_id, *found in await self._pool.fetch(QUERIES["known"], *_split(missing)):
            key = tenant_id, request_id
            known[key] = self._known(tenant_id, *found) if found[1] is not None else _Known.gone(found[0], firsts[key])
        return [_result(item, known.get((item.tenant_id, item.request_id))) for item in items]

    def _known(self, tenant_id: str, delivery_id: UUID, *rest: Any) -> "_Known":
        channel_id, conversation_id, chat_id, clear, sealed = rest
        text: str | None = None
        try:
            text = self._sealing.open_text(tenant_id, delivery_id, clear, sealed)
        except CannotOpen as error:
            log.error("a stored text cannot be opened", delivery_id=str(delivery_id), error=describe(error), alert=True)
        return _Known(delivery_id, channel_id, conversation_id, chat_id, text)

    def _columns(self, items: Sequence[NewDelivery]) -> tuple[list[object], ...]:
        return (
            [item.delivery_id for item in items],
            [item.tenant_id for item in items],
            [item.request_id for item in items],
            [item.channel_key for item in items],
            [item.channel_id for item in items],
            [item.conversation_id for item in items],
            [item.chat_id for item in items],
            [item.message_id for item in items],
            [item.reply_index for item in items],
            [self._sealing.text(item.tenant_id, item.delivery_id, item.text) for item in items],
            [None if item.cuts is None else "{" + ",".join(map(str, item.cuts)) + "}" for item in items],
            [item.traceparent for item in items],
            [item.tracestate for item in items],
            [item.lane_id for item in items],
        )


class _Known(NamedTuple):
    """What is stored under a request id."""

    delivery_id: UUID
    channel_id: str
    conversation_id: UUID
    chat_id: str
    text: str | None
    """None when it does not open: then it may be the same."""

    @staticmethod
    def of(item: NewDelivery) -> "_Known":
        return _Known(item.delivery_id, item.channel_id, item.conversation_id, item.chat_id, item.text)

    @staticmethod
    def gone(delivery_id: UUID, item: NewDelivery) -> "_Known":
        """A delivery that is not kept any more: what it was cannot be compared."""
        return _Known.of(item)._replace(delivery_id=delivery_id)


def _result(item: NewDelivery, known: _Known | None) -> Stored | ParleyError:
    if known is None:
        return not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", item.channel_id)
    if known.text is None:
        known = known._replace(text=item.text)
    if known[1:] != _Known.of(item)[1:]:
        return _reused(item.request_id)
    return Stored(known.delivery_id, known.delivery_id != item.delivery_id)


def _split(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in keys], [request_id for _, request_id in keys]


def _reused(request_id: str) -> ParleyError:
    message = f"The request id {request_id!r} was used before for another message."
    return ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message, metadata={"request_id": request_id})
