"""Reads deliveries for people: one, a page, the numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from services.delivery.domain import deliveries
from services.delivery.domain.outbox import Delivery
from services.delivery.domain.parts import OPEN, PartState
from services.delivery.usecases.ports import Filter, Stats
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

COLUMNS = """delivery_id, delivery.tenant_id, channel_key, channel_id, conversation_id, chat_id, request_id, message_id,
    reply_index, text, cuts, parts, delivery.created_at, sent_at, delivered_at, read_at, traceparent, tracestate,
    delivery.lane_id, delivery.seq, revision"""
_IN_STATE = """CASE WHEN parts IS NULL THEN $5 = 1
    ELSE EXISTS (SELECT FROM json_array_elements(parts) AS part WHERE (part ->> 0)::int = $5) END"""

QUERIES = load_queries(Path(__file__).parent / "reading.sql", columns=COLUMNS, in_state=_IN_STATE)


class PostgresReadStore:
    """`ReadStore` on Postgres."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def get(self, tenant_id: str, delivery_id: UUID) -> Delivery | None:
        row = await self._pool.fetchrow(QUERIES["get"], tenant_id, delivery_id)
        return None if row is None else delivery_of(row)

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
        return [delivery_of(row) for row in await self._pool.fetch(QUERIES[name], *arguments)]

    async def stats(self, tenant_id: str) -> Stats:
        """Of one tenant, or of all when the id is empty."""
        row = await self._pool.fetchrow(QUERIES["stats"], tenant_id)
        assert row is not None
        return Stats(*row)


def delivery_of(row: asyncpg.Record) -> Delivery:
    """From the columns of COLUMNS."""
    values = dict(row)
    cuts, stored = values.pop("cuts"), values.pop("parts")
    count = 1 if cuts is None else len(cuts) // 2
    return Delivery(**values, cuts=None if cuts is None else tuple(cuts), parts=deliveries.from_json(stored, count))
