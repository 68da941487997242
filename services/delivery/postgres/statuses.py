"""Takes in what providers say of sent messages."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.delivery.domain import deliveries, statuses
from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.channels import Channel
from services.delivery.domain.outbox import Delivery, Outcome, ReplyState, part_of
from services.delivery.domain.scrubbing import scrub, without_phones
from services.delivery.domain.statuses import Effect, Report
from services.delivery.postgres.changing import QUERIES as CHANGING
from services.delivery.postgres.changing import as_time, store_parts
from services.delivery.postgres.gathered import AWAY
from services.delivery.postgres.reading import COLUMNS, delivery_of
from services.delivery.postgres.sealing import Sealing
from services.delivery.postgres.sending import QUERIES as OUTBOX
from services.delivery.usecases.ports import Said
from services.runtime.crashpoints import reach
from services.runtime.lanes import Connection
from services.runtime.logs import describe, get_logger
from services.runtime.postgres import retry_deadlocks
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

log = get_logger(__name__)

QUERIES = load_queries(Path(__file__).parent / "statuses.sql", columns=COLUMNS)
_BATCH = 500
_GATHER = 0.1
"""Seconds in which ids that become known are gathered for one look."""
_AT_MOST = 20_000
"""Ids that wait for that look; of more, the statuses are found when their time to be looked at comes."""

Key = tuple[int, str]
"""A channel's key and a provider's id of a message."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A part, its delivery locked. `is_known`: the provider's id was known to be this part's."""

    delivery: Delivery
    index: int
    is_known: bool

    def attempt(self, report: Report) -> int:
        """The attempt that our own id names, counted from 1; 0 for none."""
        named = part_of(report.external_id)
        return named[2] if named is not None and named[:2] == (self.delivery.delivery_id, self.index) else 0


class PostgresStatusStore:
    """`StatusStore` on Postgres. `said` gets outcomes once they are stored, `due` hears that a lane has become due.

    A status and the id that it names may be stored at the same time by two processes, neither seeing the other's. So
    both look for the other's after their own commit: whoever commits last finds both.
    """

    def __init__(
        self, pool: "Pool", sealing: Sealing, *, said: Callable[[Sequence[Said]], None], due: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._sealing = sealing
        self._said = said
        self._due = due
        self._named: list[Key] = []
        self._news = asyncio.Event()

    async def report(self, channel: Channel, report: Report, dedupe_key: str) -> bool:
        """Keeps a status and lets it take effect, now or when its part is known. True when it was kept before."""
        reach("delivery.before_status")
        kept, placed = await retry_deadlocks(lambda: self._take(channel, report, dedupe_key))
        reach("delivery.after_status")
        if not (kept and placed):
            await self._settle((channel.key, report.provider_message_id))
        return not kept

    def named(self, ids: Sequence[Key]) -> None:
        """Providers' ids of messages are known now, and stored: `run` looks whether statuses were ahead of them."""
        if len(self._named) < _AT_MOST:
            self._named.extend(ids)
            self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Places statuses as ids become known, until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait({news, stopping}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                await asyncio.wait({stopping}, timeout=_GATHER)
                self._news.clear()
                ids, self._named = self._named, []
                try:
                    await self._settle_early(ids)
                except Exception as error:
                    log.warning("statuses cannot be placed now; they are looked at again", error=describe(error))
        finally:
            stopping.cancel()

    async def look(self) -> bool:
        """Looks again at statuses that nobody could place: a process may have died before it did. True: there are more
        to be looked at.
        """
        rows = await self._pool.fetch(QUERIES["look"], _BATCH)
        await self._settle_each([((key, name), external_id) for key, name, external_id, known in rows if known])
        return len(rows) == _BATCH

    async def expire(self) -> bool:
        """Forgets old statuses, some at a time. True: there are more."""
        return len(await self._pool.fetch(QUERIES["expire"], 10 * _BATCH)) == 10 * _BATCH

    async def _settle_early(self, ids: Sequence[Key]) -> None:
        keys, names = [key for key, _ in ids], [name for _, name in ids]
        if ids:
            await self._settle_each([(tuple(row), "") for row in await self._pool.fetch(QUERIES["early"], keys, names)])

    async def _settle_each(self, keys: Sequence[tuple[Key, str]]) -> None:
        """One that cannot be read stops no other."""
        for key, external_id in keys:
            try:
                await self._settle(key, external_id)
            except AWAY:
                raise
            except Exception as error:
                log.error("a status cannot be placed", channel_key=key[0], error=describe(error), alert=True)

    async def _take(self, channel: Channel, report: Report, dedupe_key: str) -> tuple[bool, bool]:
        """Stores a status with what follows from it. Whether it is new, and whether its part is known."""
        said: list[Said] = []
        named = False
        async with self._pool.acquire() as conn, conn.transaction():
            target = await self._target(conn, channel.key, report)
            place = (channel.tenant_id, channel.key, dedupe_key)
            kept = await conn.fetchval(
                QUERIES["keep"],
                channel.key,
                dedupe_key,
                report.provider_message_id,
                report.external_id,
                report.status,
                as_time(report.at),
                None if target else self._sealing.early_error(place, without_phones(report.error)),
                report.word,
                target is not None,
            )
            if target is not None and kept:
                said, _ = await self._apply(conn, target, report)
                named = await self._name(conn, target, (channel.key, report.provider_message_id))
        self._tell(said)
        if named:
            self.named([(channel.key, report.provider_message_id)])
        return bool(kept), target is not None

    async def _target(self, conn: Connection, channel_key: int, report: Report) -> "_Target | None":
        """The part that a report is about, with its delivery locked; None when nobody knows it."""
        named = part_of(report.external_id)
        found = await conn.fetchrow(QUERIES["find"], channel_key, report.provider_message_id)
        place = named[:2] if found is None and named is not None else found
        if place is None:
            return None
        row = await conn.fetchrow(QUERIES["lock"], None, place[0], channel_key)
        delivery = None if row is None else delivery_of(row, self._sealing)
        if delivery is None or not 0 <= place[1] < len(delivery.parts):
            return None
        return _Target(delivery, place[1], is_known=found is not None)

    async def _name(self, conn: Connection, target: "_Target", key: Key) -> bool:
        """A part that was found by our own id is found by the provider's from now on. True when that is new."""
        if target.is_known:
            return False
        return bool(await conn.fetchval(QUERIES["name"], *key, target.delivery.delivery_id, target.index))

    async def _settle(self, key: Key, external_id: str = "") -> None:
        """Places all that was said of a message, if its part is known."""
        self._tell(await retry_deadlocks(lambda: self._place(key, external_id)))

    async def _place(self, key: Key, external_id: str) -> list[Said]:
        said: list[Said] = []
        async with self._pool.acquire() as conn, conn.transaction():
            target = await self._target(conn, key[0], Report(ProviderStatus.NONE, 0, key[1], external_id))
            if target is None:
                return said
            rows = await conn.fetch(QUERIES["unmatched"], *key)
            for dedupe_key, ours, status, at, clear, sealed, word in rows:
                place = (target.delivery.tenant_id, key[0], dedupe_key)
                error = self._sealing.open_early_error(place, clear, sealed)
                report = Report(ProviderStatus(status), _milliseconds(at), key[1], ours, error, word)
                more, target = await self._apply(conn, target, report)
                said += more
            if rows:
                await conn.execute(QUERIES["matched"], key[0], [row[0] for row in rows])
                await self._name(conn, target, key)
        return said

    async def _apply(self, conn: Connection, target: "_Target", report: Report) -> tuple[list[Said], "_Target"]:
        """Stores what follows from a report, and returns what dialog must hear, and the target as it is then."""
        delivery, index = target.delivery, target.index
        report = replace(report, error=_scrubbed(report.error, delivery, index), word=without_phones(report.word))
        effect = statuses.apply(delivery.parts, index, target.attempt(report), report)
        said = await self._store(conn, delivery, effect, report)
        if effect.parts is not None:
            target = replace(target, delivery=replace(delivery, parts=effect.parts))
        return said, target

    def _tell(self, said: list[Said]) -> None:
        if said:
            self._said(said)

    async def _store(self, conn: Connection, delivery: Delivery, effect: Effect, report: Report) -> list[Said]:
        key = (delivery.tenant_id, delivery.delivery_id)
        at = as_time(report.at)
        if effect.parts is not None:
            await store_parts(conn, *key, effect.parts, before=delivery.parts)
            if deliveries.state(effect.parts) is not deliveries.state(delivery.parts):
                await conn.execute(OUTBOX["lane_due_now"], delivery.lane_id)
                self._due()
        if ReplyState.DELIVERED in effect.outcomes or ReplyState.READ in effect.outcomes:
            await conn.execute(CHANGING["mark"], *key, at, ReplyState.READ in effect.outcomes)
        said = []
        for state in effect.outcomes:
            error = (report.error or "the provider could not send it") if state is ReplyState.DEAD else ""
            outcome_id = await conn.fetchval(CHANGING["tell"], *key, state, at, error)
            outcome = Outcome(
                delivery.tenant_id,
                delivery.delivery_id,
                delivery.message_id,
                delivery.reply_index,
                state,
                at,
                error,
                delivery.traceparent,
                delivery.tracestate,
            )
            said.append(Said(outcome_id, outcome))
        return said


def _scrubbed(error: str, delivery: Delivery, index: int) -> str:
    """Without what the part says: the text itself, or as it is in a status that was kept for later."""
    text = delivery.rendered[index].text
    return scrub(error, (text, without_phones(text), delivery.chat_id))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
