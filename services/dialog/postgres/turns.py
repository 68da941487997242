"""The worker's store: claims, plans, ends. What many turns do at the same time is one statement."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from parley_client.coalesce import Coalescer
from services.dialog.postgres.bots_cache import BotCache
from services.dialog.postgres.database import Database, columns, or_fail_together
from services.dialog.postgres.lanes import LANES, load
from services.dialog.postgres.plans import PlanCommits
from services.dialog.postgres.sealing import Sealing
from services.dialog.records import from_json, pack_inputs, plain_json, unpack_inputs, unpack_plan
from services.dialog.turns import Claimed, Finish, Frozen, NewPlan, Plan, StepBegun, StepDone, Waiting
from services.dialog.usecases.ports import FrozenTurn, StepEnd
from services.kernel.errors import ParleyError
from services.runtime.lanes import Found, Held, Lease, LeaseLost, Room
from services.runtime.logs import get_logger

log = get_logger(__name__)

TOGETHER = 20
"""Messages that one turn answers at most."""
_PLANNED = 2


class PostgresTurns:
    """Leases lanes with all that their workers need, and commits what they did under the lanes' fences."""

    def __init__(self, database: Database, sealing: Sealing, holder: str, ttl: timedelta) -> None:
        """`holder` names this process in lanes; leases last `ttl`."""
        self._database = database
        self._sql = load("turns")
        self._sealing = sealing
        self._holder = holder
        self._ttl = ttl
        self._bots = BotCache(database, self._sql["read_bots"])
        self._plans = PlanCommits(database, self._sql["commit_plans"], sealing)
        self._finishes: Coalescer[tuple[Finish, timedelta | None], int] = Coalescer(
            self._finish, max_in_flight=2, key=lambda item: item[0].lease.lane_id, isolate=True
        )

    async def claim(self, room: Room) -> Found[Claimed]:
        """Lease lanes that are due, as many as there is room for."""
        found = await self._database.run(
            lambda connection: LANES.claim(connection, holder=self._holder, room=room, ttl=self._ttl)
        )
        if not found.items:
            return Found((), found.more, found.walked)
        try:
            return Found(await self._read_claimed(found.items), found.more, found.walked)
        except Exception:
            await self.release(found.items, timedelta(0))  # if this fails too, the leases run out
            raise

    async def _read_claimed(self, leases: Sequence[Lease]) -> Sequence[Claimed]:
        read = await self._database.fetch(
            self._sql["read_claimed"], [lease.lane_id for lease in leases], [lease.done_seq for lease in leases]
        )
        rows = {row["lane_id"]: row for row in read}
        stamps = [((row["tenant_id"], row["bot_id"]), row["stamp"]) for row in read if row["stamp"] is not None]
        bots = await self._bots.get(stamps)
        claimed = []
        for lease in leases:
            row = rows.get(lease.lane_id)
            if row is None:
                log.error("a lane has no first message", lane_id=str(lease.lane_id), done_seq=lease.done_seq)
                continue
            known = bots.get((row["tenant_id"], row["bot_id"])) if row["stamp"] is not None else None
            claimed.append(
                Claimed(
                    lease=lease,
                    head=self._waiting(row),
                    bot=known.bot if known else None,
                    default_region=known.default_region if known else "",
                    time_zone=known.time_zone if known else "",
                    open_turn=self._open_turn(row),
                )
            )
        return claimed

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
        return [head, *map(self._waiting, rows)]

    async def commit_plan(self, new: NewPlan) -> None:
        """Raises LeaseLost."""
        await self._plans.call(new)

    async def finish(self, item: Finish) -> int:
        """End a turn; how many messages wait in its lane. Raises LeaseLost."""
        return await self._finishes.submit((item, None))

    async def fail(self, item: Finish, due_in: timedelta) -> None:
        """Let a lane go with nothing done, the attempt counted. Raises LeaseLost."""
        await self._finishes.submit((item, due_in))

    async def _finish(self, items: list[tuple[Finish, timedelta | None]]) -> Sequence[int | Exception]:
        settles, messages, replies = [], [], []
        for item, due_in in items:
            lease = item.lease
            lane = lease.lane_id
            done, attempts = (len(item.message_ids), 0) if due_in is None else (0, item.attempts)
            delay = None if due_in is None else due_in.total_seconds()
            settles.append((lane, lease.fence, done, delay, attempts, item.data_version, 0))
            for message_id in item.message_ids:
                end = (item.state, item.attempts, item.last_error, item.terminal_reason)
                messages.append((lane, lease.tenant_id, message_id, *end))
            for index, reply in enumerate(item.replies):
                replies.append((lane, item.turn_id, index, reply.delivery_id, reply.state, reply.error))
        arguments = [*columns(settles, 7), *columns(messages, 7), *columns(replies, 6)]
        rows = await or_fail_together(self._database.fetch(self._sql["finish"], *arguments))
        if isinstance(rows, ParleyError):
            return [rows] * len(items)
        pending: dict[UUID, int] = {row["lane_id"]: row["pending"] for row in rows}
        return [pending.get(item.lease.lane_id, lost(item.lease)) for item, _ in items]

    async def park(self, claimed: Claimed, due_in: timedelta) -> None:
        """Let a lane wait for its disabled bot. Enabling it makes the lane due: each sees what the other did, because
        both lock the bot's row first."""
        head = claimed.head.request

        async def work(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
            enabled = await connection.fetchval(self._sql["lock_bot"], head.tenant_id, head.bot_id)
            await LANES.release(connection, [claimed.lease], due_in=timedelta(0) if enabled else due_in)

        await self._database.transaction(work)

    async def begin_step(
        self, claimed: Claimed, frozen: FrozenTurn, step: str, request_sha256: bytes
    ) -> StepBegun | StepDone:
        """Note that a call is about to be made, and freeze the turn before its first one. Raises LeaseLost."""
        tenant_id = claimed.lease.tenant_id
        row = await self._database.fetchrow(
            self._sql["begin_step"],
            claimed.lease.lane_id,
            claimed.lease.fence,
            frozen.turn_id,
            step,
            tenant_id,
            request_sha256,
            frozen.last_seq,
            frozen.first_seq,
            frozen.message_id,
            self._sealing.inputs(tenant_id, frozen.turn_id, pack_inputs(frozen.inputs)),
            frozen.started_at,
        )
        assert row is not None
        if not row["held"]:
            raise lost(claimed.lease)
        if row["try"] is None:
            result, sealed = row["result"], row["sealed_result"]
            if sealed is not None:
                result = self._sealing.open_result(tenant_id, frozen.turn_id, step, sealed)
            return StepDone(from_json(result), row["request_sha256"] == request_sha256)
        return StepBegun(row["try"])

    async def end_step(self, tenant_id: str, turn_id: UUID, step: str, number: int, end: StepEnd) -> None:
        """Note how a call ended."""
        usage = _usage(end)
        result = None
        if end.result is not None:
            result = self._sealing.result(tenant_id, turn_id, step, plain_json(end.result))
        await self._database.fetch(
            self._sql["end_step"], turn_id, step, number, 3 if result is None else 2, result, end.error, *usage
        )

    async def mark_broken(self, tenant_id: str, bot_id: str, revision: int, reason: str) -> None:
        await self._database.fetch(self._sql["mark_broken"], tenant_id, bot_id, revision, reason)

    def _waiting(self, row: asyncpg.Record) -> Waiting:
        tenant_id, message_id = row["tenant_id"], row["message_id"]
        return Waiting(
            message_id=message_id,
            seq=row["seq"],
            request=SubmitMessageRequest.FromString(self._sealing.open_message(tenant_id, message_id, row["request"])),
            received_at=row["received_at"],
            age=row["age"],
            chat=row["chat"],
            traceparent=row["traceparent"],
            tracestate=row["tracestate"],
        )

    def _open_turn(self, row: asyncpg.Record) -> Plan | Frozen | None:
        turn_id = row["turn_id"]
        if turn_id is None:
            return None
        first_seq, last_seq = row["first_seq"], row["last_seq"]
        if row["state"] == _PLANNED:
            plan = self._sealing.open_plan(row["tenant_id"], turn_id, row["plan"])
            return unpack_plan(plan, turn_id=turn_id, first_seq=first_seq, last_seq=last_seq)
        inputs = self._sealing.open_inputs(row["tenant_id"], turn_id, row["inputs"])
        return Frozen(turn_id, first_seq, last_seq, unpack_inputs(inputs, turn_id))


def lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"the lease of lane {lease.lane_id} is lost (fence {lease.fence})")


def _usage(end: StepEnd) -> tuple[str, int, int, int]:
    """What a model call says of its model, tokens and price; other calls say nothing."""
    result = end.result or {}
    numbers = [int(result.get(name, 0)) for name in ("input_tokens", "output_tokens", "price_micros_usd")]
    return str(result.get("model", "")), numbers[0], numbers[1], numbers[2]
