"""Reads deliveries for people: one, a page, the numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from services.delivery.domain import deliveries
from services.delivery.domain.outbox import Delivery
from services.delivery.domain.parts import OPEN, PartState
from services.delivery.postgres.sealing import Sealing
from services.delivery.usecases.ports import Filter, Stats
from services.runtime.crypto import CannotOpen
from services.runtime.logs import describe, get_logger
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

COLUMNS = """delivery_id, delivery.tenant_id, channel_key, channel_id, conversation_id, chat_id, request_id, message_id,
    reply_index, text, sealed_text, cuts, parts, delivery.created_at, sent_at, delivered_at, read_at, traceparent,
    tracestate, delivery.lane_id, delivery.seq, revision"""
_IN_STATE = """CASE WHEN parts IS NULL THEN $5 = 1
    ELSE EXISTS (SELECT FROM json_array_elements(parts) AS part WHERE (part ->> 0)::int = $5) END"""

QUERIES = load_queries(Path(__file__).parent / "reading.sql", columns=COLUMNS, in_state=_IN_STATE)
UNREADABLE = "[this text cannot be opened with the keys that are known here]"
"""Shown in place of a text."""

log = get_logger(__name__)


class PostgresReadStore:
    """`ReadStore` on Postgres."""

    def __init__(self, pool: "Pool", sealing: Sealing) -> None:
        self._pool = pool
        self._sealing = sealing

    async def get(self, tenant_id: str, delivery_id: UUID) -> Delivery | None:
        row = await self._pool.fetchrow(QUERIES["get"], tenant_id, delivery_id)
        return None if row is None else delivery_of(row, self._sealing)

    async def page(self, wanted: Filter, *, before: UUID | None, limit: int) -> Sequence[Delivery]:
        """At most `limit`, newest first, of those older than `before`."""
        arguments = [wanted.tenant_id, before, limit, wanted.channel_id, wanted.part_state or 0]
        if wanted.message_id is not None:
            name = "list_of_message"
            arguments.append(wanted.message_id)
        elif wanted.part_state in OPEN:
            name = "list_open"
        elif wanted.part_state is PartState.DEAD:
            name = "list_dead"
        else:
            name = "list"
        return [delivery_of(row, self._sealing) for row in await self._pool.fetch(QUERIES[name], *arguments)]

    async def stats(self, tenant_id: str) -> Stats:
        """Of one tenant, or of all when the id is empty."""
        row = await self._pool.fetchrow(QUERIES["stats"], tenant_id)
        assert row is not None
        return Stats(*row)


def delivery_of(row: asyncpg.Record, sealing: Sealing) -> Delivery:
    """From the columns of COLUMNS. A text that does not open leaves the rest to be seen and worked with."""
    values = dict(row)
    cuts, stored = values.pop("cuts"), values.pop("parts")
    count = 1 if cuts is None else len(cuts) // 2
    parts = deliveries.from_json(stored, count)
    delivery_id = values["delivery_id"]
    try:
        text = sealing.open_text(values["tenant_id"], delivery_id, values.pop("text"), values.pop("sealed_text"))
    except CannotOpen as error:
        log.error("a stored text cannot be opened", delivery_id=str(delivery_id), error=describe(error), alert=True)
        text, cuts = UNREADABLE, [0, len(UNREADABLE)] * count
    return Delivery(**values, text=text, cuts=None if cuts is None else tuple(cuts), parts=parts)
