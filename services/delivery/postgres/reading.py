"""Reads deliveries for people: one, a page, the numbers."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from services.delivery.domain import deliveries
from services.delivery.domain.outbox import Delivery, Priority
from services.delivery.domain.parts import OPEN, PartState, killed
from services.delivery.domain.waiting import Place
from services.delivery.postgres.sealing import CONTENT_COLUMNS, Contents, Sealing
from services.delivery.usecases.ports import Filter, Stats
from services.runtime.content import of_text
from services.runtime.logs import describe, get_logger
from services.runtime.queries import load_queries
from services.runtime.read_pool import COUNTED, ReadPool

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

COLUMNS = f"""delivery_id, delivery.tenant_id, channel_key, channel_id, conversation_id, chat_id, request_id,
    message_id, reply_index, parts, delivery.created_at, sent_at, delivered_at, read_at, traceparent, tracestate,
    delivery.lane_id, delivery.seq, revision, delivery.priority, {CONTENT_COLUMNS}"""
_PLACE = "lane.done_seq AS lane_done_seq, lane.due_at AS lane_due_at, lane.lease_until AS lane_lease_until"
_PATH = Path(__file__).parent / "reading.sql"
_PIECES = load_queries(_PATH)
_SHARED = {name: _PIECES[name] for name in ("walk", "patient")}
_OF_ONE = {"of": "tenant_id = $1", "due": "due_at > '-infinity'", "due_patient": "isfinite(due_at)"}
_OF_ALL = {"of": "$1 = ''", "due": "due_at < 'infinity'", "due_patient": "due_at < 'infinity'"}
QUERIES = load_queries(_PATH, columns=COLUMNS, place=_PLACE, **_SHARED, **_OF_ONE)
STATS_OF_ALL = load_queries(_PATH, **_SHARED, **_OF_ALL)["stats"]
NEWEST = UUID(int=2**128 - 1)
BEGIN, WINDOW = 1_500, 5_000
"""Deliveries that one statement looks at, when it is not known that all match: the first one, and any."""
SECONDS = 0.5
"""A page that is not full after so long is given as it is."""
WAITING = 2_000
"""Waiting deliveries of a tenant that are still found by their lanes."""
LANES = 1_000
"""Lanes whose deliveries are counted."""
UNREADABLE = "[this text cannot be opened with the keys that are known here]"
"""Shown in place of a text."""

log = get_logger(__name__)


class PostgresReadStore:
    """`ReadStore` on Postgres."""

    def __init__(self, pool: "Pool", lists: ReadPool, sealing: Sealing) -> None:
        """`lists` are the connections for pages and counts."""
        self._pool = pool
        self._lists = lists
        self._sealing = sealing

    async def get(self, tenant_id: str, delivery_id: UUID) -> Delivery | None:
        row = await self._pool.fetchrow(QUERIES["get"], tenant_id, delivery_id)
        return None if row is None else delivery_of(row, self._sealing)

    async def page(self, wanted: Filter, *, before: UUID | None, limit: int) -> tuple[Sequence[Delivery], UUID | None]:
        """At most `limit`, newest first, of those older than `before`, and where the next page begins; None on the
        last. Goes back in growing windows, until the page is full, nothing is left, or the time is over."""
        ends = monotonic() + SECONDS
        name, further = await self._way(wanted)
        state = wanted.part_state or 0
        exact = name in ("walk_message", "walk_dead", "walk_open") if state else name != "walk_message"
        window = limit + 1 if exact and (not wanted.channel_id or name == "walk_channel") else min(BEGIN, WINDOW)
        position, found, next_page = before or NEWEST, list[UUID](), None
        while True:
            arguments = [wanted.tenant_id, position, window, wanted.channel_id, state, limit + 1 - len(found)]
            row = await self._lists.fetchrow(QUERIES[name], *arguments, *further)
            assert row is not None
            found += row["found"]
            if len(found) > limit:
                next_page = found[limit - 1]
                break
            if row["walked"] < window:
                break
            position, window = row["last"], min(4 * window, WINDOW)
            if monotonic() > ends:
                next_page = position
                break
        rows = await self._lists.fetch(QUERIES["list"], wanted.tenant_id, found[:limit])
        return [delivery_of(row, self._sealing) for row in rows], next_page

    async def _way(self, wanted: Filter) -> tuple[str, list[object]]:
        """The walk that meets the fewest deliveries that are not wanted."""
        if wanted.message_id is not None:
            return "walk_message", [wanted.message_id]
        if wanted.part_state is PartState.DEAD:
            return "walk_dead", []
        if wanted.part_state in OPEN:
            rows = await self._lists.fetch(QUERIES["waiting"], wanted.tenant_id, WAITING + 1)
            if len(rows) <= WAITING:  # else they are among the newest
                return "walk_open", [[row["delivery_id"] for row in rows]]
        return ("walk_channel" if wanted.channel_id else "walk_tenant"), []

    async def stats(self, tenant_id: str) -> Stats:
        """Of one tenant, or of all when the id is empty."""
        row = await self._lists.fetchrow(QUERIES["stats"] if tenant_id else STATS_OF_ALL, tenant_id, LANES, COUNTED)
        assert row is not None
        return Stats(*row)


def delivery_of(row: asyncpg.Record, sealing: Sealing) -> Delivery:
    """From the columns of COLUMNS, and of its place if they were read. What cannot be read leaves the rest to be seen
    and worked with."""
    values = dict(row)
    place = _place(values) if "lane_done_seq" in values else None
    stored, delivery_id = values.pop("parts"), values["delivery_id"]
    contents = Contents(of_text(UNREADABLE), (of_text(UNREADABLE),))
    columns = [values.pop(name) for name in CONTENT_COLUMNS.split(", ")]
    try:
        contents = sealing.open_contents(values["tenant_id"], delivery_id, columns)
    except Exception as error:
        log.error("a stored text cannot be opened", delivery_id=str(delivery_id), error=describe(error), alert=True)
    try:
        parts = deliveries.from_json(stored, len(contents.rendered))
    except Exception as error:
        log.error("stored parts cannot be read", delivery_id=str(delivery_id), error=describe(error), alert=True)
        parts = tuple(killed(part) for part in deliveries.fresh(len(contents.rendered)))
    rendered = (*contents.rendered, *[of_text(UNREADABLE)] * (len(parts) - len(contents.rendered)))
    values["priority"] = Priority(values["priority"])
    return Delivery(**values, content=contents.content, rendered=rendered, parts=parts, place=place)


def _place(values: dict[str, Any]) -> Place:
    """Takes its columns out of the row's values."""
    done, due, lease = (values.pop(f"lane_{name}") for name in ("done_seq", "due_at", "lease_until"))
    return Place(values["seq"], done or 0, _milliseconds(due), _milliseconds(lease))


def _milliseconds(at: datetime | None) -> int:
    return 0 if at is None else int(at.timestamp() * 1000)
