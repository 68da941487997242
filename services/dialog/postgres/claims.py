"""Reads what was claimed, lane by lane: one that cannot be read is told as such, and the others go on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from services.dialog.domain.bots import UnknownFlow
from services.dialog.domain.items import Item, ItemKind, TimerDue
from services.dialog.domain.turns import (
    Claimed,
    Frozen,
    Plan,
    Unreadable,
    Waiting,
)
from services.dialog.postgres.cached_bots import BotCache, CachedBot
from services.dialog.postgres.database import Database
from services.dialog.postgres.records import NewerRecord, unpack_inputs, unpack_plan
from services.dialog.postgres.sealing import Sealing
from services.runtime.lanes import Lease
from services.runtime.logs import describe, get_logger
from services.runtime.partitions import first_id

log = get_logger(__name__)

_DECIDING, _PLANNED = 1, 2

LATELY = timedelta(days=2)
"""Most messages that wait came within this time."""
FIRST, NONE = UUID(int=0), UUID(int=2**128 - 1)
"""Bounds of ids from which on all lie, and from which on none does."""


def claimed_from(
    lease: Lease, head: Waiting, known: CachedBot | None, open_turn: Plan | Frozen | None = None
) -> Claimed:
    """A lane with what is known of its bot; None for a bot that is not there."""
    return Claimed(
        lease=lease,
        head=head,
        bot=known.bot if known else None,
        default_region=known.default_region if known else "",
        time_zone=known.time_zone if known else "",
        open_turn=open_turn,
    )


class ClaimReader:
    """Turns leases into what workers need to know."""

    def __init__(self, database: Database, sealing: Sealing, sql: Mapping[str, str]) -> None:
        self._database = database
        self._sealing = sealing
        self._sql = sql
        self._bots = BotCache(database, sql["read_bots"])

    async def read(self, leases: Sequence[Lease]) -> tuple[list[Item], list[Lease]]:
        """What is at the head of each lane, and the lanes whose first message is not there."""
        of_lane = await self._rows(leases, first_id(datetime.now(UTC) - LATELY))
        older = [lease for lease in leases if lease.lane_id not in of_lane]
        if older:
            of_lane |= await self._rows(older, FIRST)
        rows = of_lane.values()
        stamps = [((row["tenant_id"], row["bot_id"]), row["stamp"]) for row in rows if row["stamp"] is not None]
        bots = await self._bots.get(stamps)
        read: list[Item] = []
        empty = []
        for lease in leases:
            row = of_lane.get(lease.lane_id)
            if row is None and lease.timers and lease.timers[0].at <= lease.lease_until:
                read.append(TimerDue(lease))
            elif row is None:
                empty.append(lease)
            else:
                known = bots.get((row["tenant_id"], row["bot_id"])) if row["stamp"] is not None else None
                read.append(self._one(lease, row, known))
        return read, empty

    async def _rows(self, leases: Sequence[Lease], since: UUID) -> dict[UUID, asyncpg.Record]:
        """What is stored of the lanes whose first message has an id from `since` on."""
        rows = await self._database.fetch(
            self._sql["read_claimed"],
            [lease.lane_id for lease in leases],
            [lease.done_seq for lease in leases],
            [lease.pending for lease in leases],
            since,
            FIRST if any(lease.pending > 1 for lease in leases) else NONE,
        )
        return {row["lane_id"]: row for row in rows}

    def known(self, tenant_id: str, bot_id: str) -> CachedBot | None:
        """A bot as it was read last; None for one that is not remembered."""
        return self._bots.peek((tenant_id, bot_id))

    def _one(self, lease: Lease, row: asyncpg.Record, known: CachedBot | None) -> Claimed | Unreadable:
        bot = known.bot if known else None
        try:
            claimed = claimed_from(lease, self.waiting(row), known, self._open_turn(row))
            planned = isinstance(claimed.open_turn, Plan)  # and is carried out whatever its bot has become
            if bot is not None and bot.enabled and isinstance(bot.flow, UnknownFlow) and not planned:
                raise NewerRecord(f"a bot with the flow {bot.flow.name!r}")
            return claimed
        except Exception as error:
            newer = isinstance(error, NewerRecord)
            why = f"{error} is not known to this version" if newer else describe(error)
            log.error(
                "a lane cannot be read",
                tenant_id=lease.tenant_id,
                message_id=str(row["message_id"]),
                error=why,
                alert=not newer,
            )
            return Unreadable(lease, row["message_id"], why, newer, row["chat"])

    def waiting(self, row: asyncpg.Record) -> Waiting:
        """A message. Raises whatever decoding raises."""
        tenant_id, message_id = row["tenant_id"], row["message_id"]
        if row["kind"] != ItemKind.MESSAGE:
            raise NewerRecord(f"an item of the kind {_kind(row['kind'])}")
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

    def readable(self, rows: Sequence[asyncpg.Record]) -> list[Waiting]:
        """The messages up to the first one that cannot be read, which fails alone when its turn comes."""
        read = []
        for row in rows:
            try:
                read.append(self.waiting(row))
            except Exception as error:
                log.warning(
                    "a waiting message cannot be read", message_id=str(row["message_id"]), error=describe(error)
                )
                break
        return read

    def _open_turn(self, row: asyncpg.Record) -> Plan | Frozen | None:
        turn_id, state = row["turn_id"], row["state"]
        if turn_id is None:
            return None
        first_seq, last_seq = row["first_seq"], row["last_seq"]
        if state == _PLANNED:
            plan = self._sealing.open_plan(row["tenant_id"], turn_id, row["plan"])
            return unpack_plan(plan, turn_id=turn_id, first_seq=first_seq, last_seq=last_seq)
        if state != _DECIDING:
            raise NewerRecord(f"a turn in the state {state}")
        inputs = self._sealing.open_inputs(row["tenant_id"], turn_id, row["inputs"])
        return Frozen(turn_id, first_seq, last_seq, unpack_inputs(inputs, turn_id))


def _kind(stored: int) -> str:
    try:
        return ItemKind(stored).name
    except ValueError:
        return str(stored)
