"""Pages of messages, conversations and orders, and the counts of the queue, for operators."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import NamedTuple
from uuid import UUID

import asyncpg
from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.turns import MessageState
from services.dialog.ports import Wanted
from services.runtime.queries import load_queries
from services.runtime.read_pool import COUNTED, ReadPool

NEWEST = UUID(int=2**128 - 1)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
BEGIN, WINDOW = 1_500, 5_000
"""Messages that one statement looks at, when it is not known that all match: the first one, and any."""
SECONDS = 0.5
"""A page that is not full after so long is given as it is."""
WAITING = 2_000
"""Waiting messages of a tenant that are still found by their lanes."""

_PATH = Path(__file__).with_name("reads.sql")
_PIECES = load_queries(_PATH)
_OF_ONE = {"of": "tenant_id = $1", "due": "due_at > '-infinity'", "due_patient": "isfinite(due_at)"}
_OF_ALL = {"of": "$1 = ''", "due": "due_at < 'infinity'", "due_patient": "due_at < 'infinity'"}
_SHARED = {name: _PIECES[name] for name in ("message", "walk", "patient", "conversation")}
SQL = load_queries(_PATH, **_SHARED, **_OF_ONE)
STATS_OF_ALL = load_queries(_PATH, **_SHARED, **_OF_ALL)["queue_stats"]


class Found(NamedTuple):
    """A page: the messages, newest first, and where the next one begins; None on the last."""

    message_ids: list[UUID]
    older_than: UUID | None


class Listing:
    """Statements on the pool of operators' reads."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool

    async def messages(self, wanted: Wanted, older_than: UUID | None, limit: int) -> Found:
        """Up to `limit` messages. Goes back in growing windows, until the page is full, nothing is left, or the time
        is over."""
        ends = monotonic() + SECONDS
        name, waiting = await self._way(wanted)
        filtered = wanted.channel_id is not None and name != "walk_channel"
        filtered = filtered or (bool(wanted.states) and name != "walk_trouble")
        window = min(BEGIN, WINDOW) if filtered else limit + 1
        position, found = older_than or NEWEST, list[UUID]()
        while True:
            states = list(wanted.states) or None
            arguments = [wanted.tenant_id, position, window, wanted.conversation_id, wanted.channel_id, states]
            arguments += [limit + 1 - len(found), *waiting]
            row = await self._pool.fetchrow(SQL[name], *arguments)
            assert row is not None
            found += row["found"]
            if len(found) > limit:
                return Found(found[:limit], found[limit - 1])
            if row["walked"] < window:
                return Found(found, None)
            position, window = row["last"], min(4 * window, WINDOW)
            if monotonic() > ends:
                return Found(found, position)

    async def _way(self, wanted: Wanted) -> tuple[str, list[list[UUID]]]:
        """The walk that meets the fewest messages that are not wanted."""
        if wanted.conversation_id is not None:
            return "walk_conversation", []
        if wanted.states and MessageState.COMPLETED not in wanted.states:
            waiting: list[UUID] = []
            if {MessageState.RECEIVED, MessageState.PROCESSING} & set(wanted.states):
                rows = await self._pool.fetch(SQL["waiting"], wanted.tenant_id, WAITING + 1)
                waiting = [row["message_id"] for row in rows]
            if len(waiting) <= WAITING:  # else they are among the newest
                return "walk_trouble", [waiting]
        return ("walk_channel" if wanted.channel_id is not None else "walk_tenant"), []

    async def message_rows(self, tenant_id: str, message_ids: Sequence[UUID]) -> list[asyncpg.Record]:
        """Messages, each with what belongs to it; newest first."""
        return await self._pool.fetch(SQL["get_messages"], tenant_id, message_ids)

    async def replies(self, turn_ids: Sequence[UUID]) -> list[asyncpg.Record]:
        return await self._pool.fetch(SQL["replies"], turn_ids)

    async def conversations(
        self, tenant_id: str, channel_id: str | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[asyncpg.Record]:
        at, conversation_id = after or (_LATEST, NEWEST)
        if channel_id is None:
            return await self._pool.fetch(SQL["list_conversations"], tenant_id, at, conversation_id, limit)
        query = SQL["list_conversations_of_channel"]
        return await self._pool.fetch(query, tenant_id, at, conversation_id, limit, channel_id)

    async def orders(
        self, tenant_id: str, conversation_id: UUID | None, bot_id: str | None, older_than: UUID | None, limit: int
    ) -> list[asyncpg.Record]:
        page = (tenant_id, older_than or NEWEST, limit)
        if conversation_id is not None:
            return await self._pool.fetch(SQL["list_orders_of_conversation"], *page, conversation_id, bot_id)
        if bot_id is not None:
            return await self._pool.fetch(SQL["list_orders_of_bot"], *page, bot_id)
        return await self._pool.fetch(SQL["list_orders"], *page)

    async def queue_stats(self, tenant_id: str) -> dialog_pb2.GetQueueStatsResponse:
        """The state of the queue of a tenant, or of all for an empty id."""
        row = await self._pool.fetchrow(SQL["queue_stats"] if tenant_id else STATS_OF_ALL, tenant_id, COUNTED)
        assert row is not None
        response = dialog_pb2.GetQueueStatsResponse(
            waiting=max(0, row["pending"] - row["leased"] - row["failed"]),
            leased_lanes=row["leased"],
            failed=row["failed"],
            dead=row["dead"],
            parked=row["parked"],
            capped=max(row["busy"], row["failed"], row["dead"]) >= COUNTED,
        )
        oldest: timedelta | None = row["oldest_waiting"]
        if oldest is not None:
            response.oldest_waiting.CopyFrom(_duration(oldest))
        return response


def _duration(value: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(value)
    return made
