"""The worker's store: claims, plans, ends. What many turns do at the same time is one statement."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from parley_client.coalesce import Coalescer
from services.dialog.domain.items import (
    DropOff,
    Item,
    Mode,
    TimerDue,
)
from services.dialog.domain.turns import (
    Claimed,
    MessageState,
    Plan,
    Planned,
    PutOff,
    TurnEnd,
    Waiting,
)
from services.dialog.postgres.cached_bots import CachedBot
from services.dialog.postgres.claims import ClaimReader
from services.dialog.postgres.database import Database, columns, or_fail_together
from services.dialog.postgres.plans import PlanCommits, drop_off_row
from services.dialog.postgres.queries import LANES, Row, queries
from services.dialog.postgres.sealing import Sealing
from services.kernel.errors import ParleyError
from services.runtime.lanes import Found, Held, Lease, LeaseLost, Lookback, Room, Settle, settle_columns
from services.runtime.logs import get_logger
from services.runtime.partitions import extent

log = get_logger(__name__)

CROWD = 500
"""Lanes of a disabled bot that are parked beside those that were claimed."""
TOGETHER = 20
"""Messages that one turn answers at most."""


class PostgresTurns:
    """Leases lanes with all that their workers need, and commits what they did under the lanes' fences."""

    def __init__(self, database: Database, sealing: Sealing, holder: str, ttl: timedelta) -> None:
        """`holder` names this process in lanes; leases last `ttl`."""
        self._database = database
        known = queries("turns")
        self._sql = {name: query.sql for name, query in known.items()}
        self._finish_query, self._end_timer_query = known["finish"], known["end_timer"]
        self._sealing = sealing
        self.holder, self.ttl = holder, ttl
        self._lookback = Lookback()
        self._reader = ClaimReader(database, sealing, self._sql)
        self._plans = PlanCommits(database, known["commit_plans"], sealing)
        self._finishes: Coalescer[TurnEnd | PutOff, int] = Coalescer(
            self._finish, max_in_flight=2, key=lambda item: item.lease.lane_id, isolate=True
        )

    async def claim(self, room: Room) -> Found[Item]:
        """Lease lanes that are due, as many as there is room for. Lanes that wait for a disabled bot are parked."""
        found = await self._database.run(
            lambda connection: LANES.claim(
                connection, holder=self.holder, room=room, ttl=self.ttl, lookback=self._lookback
            )
        )
        if not found.items:
            return Found((), found.more, found.more_patient, found.walked)
        try:
            read, empty = await self._reader.read(found.items)
            sleeping = [item for item in read if _sleeps(item)]
            if sleeping or empty:
                await self._put_aside(sleeping, empty)
                read = [item for item in read if not _sleeps(item)]
        except Exception:
            await self.release(found.items, timedelta(0))  # if this fails too, the leases run out
            raise
        again = found.more and len(read) < len(found.items)
        return Found(read, found.more, found.more_patient, found.walked, again)

    def known(self, tenant_id: str, bot_id: str) -> CachedBot | None:
        """A bot as a claim has read it last; None for one that is not remembered."""
        return self._reader.known(tenant_id, bot_id)

    async def _put_aside(self, sleeping: Sequence[Item], empty: Sequence[Lease]) -> None:
        """Let lanes wait for their disabled bots: each of enabling and parking sees what the other did, because both
        lock the bot's row first. A lane whose first message is not there goes on after it."""
        lanes = [(item.lease, item.bot) for item in sleeping if isinstance(item, Claimed) and item.bot is not None]
        keys = [(bot.tenant_id, bot.bot_id) for _, bot in lanes]

        async def work(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
            rows = await connection.fetch(self._sql["lock_disabled"], *columns(sorted(set(keys)), 2))
            disabled = {tuple(row) for row in rows}
            # All at once and in order, whatever then becomes of each.
            await LANES.hold(connection, [*(lease.held for lease, _ in lanes), *(lease.held for lease in empty)])
            parked = [(lease, key[1]) for (lease, _), key in zip(lanes, keys, strict=True) if key in disabled]
            await LANES.park(connection, [lease for lease, _ in parked], [bot_id for _, bot_id in parked])
            awake = [lease for (lease, _), key in zip(lanes, keys, strict=True) if key not in disabled]
            await LANES.release(connection, awake, due_in=timedelta(0))
            gone = [Settle(lease.lane_id, lease.fence, 1, timers=lease.timers) for lease in empty]
            await LANES.settle(connection, gone)
            for key in sorted(disabled):
                shares = {lease.share for (lease, _), bot in zip(lanes, keys, strict=True) if bot == key}
                await connection.execute(self._sql["park_more"], *key, sorted(shares), CROWD)

        await self._database.transaction(work)
        for lease in empty:
            log.error(
                "a message in a lane is not there", lane_id=str(lease.lane_id), done_seq=lease.done_seq, alert=True
            )

    async def renew(self, leases: Sequence[Held], ttl: timedelta) -> Collection[UUID]:
        return await self._database.run(lambda connection: LANES.renew(connection, leases, ttl))

    async def release(self, leases: Sequence[Lease], due_in: timedelta) -> object:
        return await self._database.run(lambda connection: LANES.release(connection, leases, due_in=due_in))

    async def waiting(self, claimed: Claimed) -> Sequence[Waiting]:
        """The messages that a turn may answer together, by what had come when the lane was claimed."""
        head = claimed.head
        last = head.seq + min(claimed.lease.pending, TOGETHER) - 1
        if last <= head.seq:
            return [head]
        rows = await self._database.fetch(self._sql["read_waiting"], claimed.lease.lane_id, head.seq, last)
        return [head, *self._reader.readable(rows)]

    async def commit_plan(self, planned: Planned) -> None:
        """Raises LeaseLost."""
        await self._plans.call(planned)

    async def finish(self, end: TurnEnd) -> int:
        """End a turn; how many messages wait in its lane. Raises LeaseLost."""
        return await self._finishes.submit(end)

    async def put_off(self, item: PutOff) -> None:
        """Let a lane go with nothing done, and say why. Raises LeaseLost."""
        await self._finishes.submit(item)

    async def _finish(self, items: "list[TurnEnd | PutOff]") -> Sequence[int | Exception]:
        settles = [_settled(item) for item in items]
        ends = [row for item in items for row in _ends(item)]
        replies = [row for item in items if isinstance(item, TurnEnd) for row in _replies(item)]
        query = self._finish_query
        numbered = (
            *settle_columns(settles),
            *extent([message_id for item in items for message_id in item.message_ids]),
        )
        arguments = query.arguments(*numbered, ends=ends, replies=replies)
        rows = await or_fail_together(self._database.fetch(query.sql, *arguments))
        if isinstance(rows, ParleyError):
            return [rows] * len(items)
        pending: dict[UUID, int] = {row["lane_id"]: row["pending"] for row in rows}
        return [pending.get(item.lease.lane_id, lost(item.lease)) for item in items]

    async def end_timer(self, due: TimerDue, form: DropOff | None) -> int:
        """End what a lane's timer was for, with its lease; how many items wait in the lane. Raises LeaseLost."""
        lease, query = due.lease, self._end_timer_query
        settle = Settle(lease.lane_id, lease.fence, 1, timers=due.later)
        ends = [drop_off_row(lease.lane_id, form)] if form is not None else []
        arguments = query.arguments(*settle_columns([settle]), lease.tenant_id, ends=ends)
        rows = await self._database.fetch(query.sql, *arguments)
        if not rows:
            raise lost(lease)
        return int(rows[0]["pending"])

    async def mark_broken(self, tenant_id: str, bot_id: str, revision: int, reason: str) -> None:
        await self._database.fetch(self._sql["mark_broken"], tenant_id, bot_id, revision, reason)


def _sleeps(item: Item) -> bool:
    """Whether a lane waits for its disabled bot. What was decided before is still carried out."""
    if not isinstance(item, Claimed) or item.bot is None or item.lease.mode == Mode.OPERATOR:
        return False
    return not (item.bot.enabled or _is_planned(item))


def _is_planned(item: Claimed) -> bool:
    return isinstance(item.open_turn, Plan)


def _settled(item: TurnEnd | PutOff) -> Settle:
    """What becomes of the lane."""
    lease = item.lease
    if isinstance(item, TurnEnd):
        return Settle(*lease.held, len(item.message_ids), data_version=item.data_version, timers=item.timers)
    again = item.again
    attempts = lease.attempts if again.counted else lease.attempts - 1
    return Settle(*lease.held, 0, again.delay, attempts, delays=again.delays)


def _ends(item: TurnEnd | PutOff) -> list[Row]:
    """What is said of the messages; None or empty leaves what they say, and nothing is said of those that only wait."""
    if isinstance(item, TurnEnd):
        said = {"state": item.state, "attempts": item.attempts, "last_error": item.last_error}
        reason = item.terminal_reason
    else:
        again, reason = item.again, ""
        said = {
            "state": MessageState.FAILED if again.failed else None,
            "attempts": again.attempts,
            "last_error": again.error,
        }
        if not (again.failed or again.error or again.attempts is not None):
            return []
    of = {"conversation_id": item.lease.lane_id, "tenant_id": item.lease.tenant_id, "terminal_reason": reason}
    return [{"message_id": message_id, **of, **said} for message_id in item.message_ids]


def _replies(end: TurnEnd) -> list[Row]:
    return [
        {
            "conversation_id": end.lease.lane_id,
            "turn_id": end.turn_id,
            "place": place,
            "delivery_id": reply.delivery_id,
            "state": reply.state,
            "error": reply.error,
        }
        for place, reply in enumerate(end.replies)
    ]


def lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"the lease of lane {lease.lane_id} is lost (fence {lease.fence})")
