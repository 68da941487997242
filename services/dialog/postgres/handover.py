"""Hot hand-over: messages that come to an idle lane are worked on where they are taken in, without a claim."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from services.dialog.domain.bots import UnknownFlow
from services.dialog.domain.items import Item
from services.dialog.domain.turns import Claimed, Waiting
from services.dialog.ports import NewMessage
from services.dialog.postgres.cached_bots import CachedBot
from services.dialog.postgres.claims import claimed_from
from services.dialog.postgres.turns import PostgresTurns
from services.runtime import crashpoints
from services.runtime.lanes import Dispatcher, Lease, lease_of
from services.runtime.lanes.dispatcher import pause
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)


class Place(NamedTuple):
    """A place that is kept for a lane, and its bot as it was known then. `since`: the loop's time."""

    share: tuple[str, str]
    known: CachedBot
    since: float

    @property
    def asks(self) -> bool:
        return self.known.bot.asks_model


Places = Mapping[UUID, Place]
"""By lane."""


class Handover:
    """Keeps places for lanes that are about to be stored as leased, and works on those that were."""

    def __init__(
        self, turns: PostgresTurns, gather: float = 0.0, ahead: Callable[[Waiting, Lease], None] | None = None
    ) -> None:
        """In a crowd work begins `gather` seconds apart, as after claims: what comes in together stays together. Lanes
        that wait for that have their places and leases already, and `ahead` asks for what their turns will need."""
        self._turns = turns
        self._gather = gather
        self._ahead = ahead
        self._ready: list[tuple[Claimed, Place]] = []
        self._again = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._dispatcher: Dispatcher[Item] | None = None
        self.holder, self.seconds = turns.holder, turns.ttl.total_seconds()

    def attach(self, dispatcher: Dispatcher[Item]) -> None:
        self._dispatcher = dispatcher

    def keep(self, heads: Mapping[UUID, NewMessage]) -> Places:
        """Keep places for as many of the lanes as a claim would take now, each with its first new message. One whose
        bot is not known here, is disabled, waits for more to be said, or is of a newer version goes by a claim."""
        if self._dispatcher is None:
            return {}
        now = asyncio.get_running_loop().time()
        places = {}
        for lane_id, head in heads.items():
            known = self._turns.known(head.request.tenant_id, head.request.bot_id)
            if known is None or not known.bot.enabled or known.bot.debounce or isinstance(known.bot.flow, UnknownFlow):
                continue
            place = Place((head.request.tenant_id, head.share), known, now)
            if self._dispatcher.keep(place.share, asks=place.asks):
                places[lane_id] = place
        return places

    def debounce(self, message: NewMessage) -> float:
        """For how many seconds a message's bot waits for more to be said, as far as the bot is known here. A lane whose
        bot is not known is claimed at once, and then put off."""
        known = self._turns.known(message.request.tenant_id, message.request.bot_id)
        return known.bot.debounce.total_seconds() if known is not None else 0.0

    def give_back(self, places: Places) -> None:
        """Nothing was stored, as far as can be told. What was all the same is another's when its lease runs out."""
        for place in places.values():
            if self._dispatcher is not None:
                self._dispatcher.give_back(place.share, asks=place.asks)

    async def take(
        self, places: Places, counts: Counter[UUID], heads: Mapping[UUID, NewMessage], rows: Sequence[asyncpg.Record]
    ) -> set[UUID]:
        """Begin the work on lanes that were leased; which. Of a bot that has changed meanwhile they are let go, as what
        is known of it does not hold any more."""
        if not places or self._dispatcher is None:
            return set()
        crashpoints.reach("dialog.after_leased_commit")
        taken, stale = set[UUID](), list[Lease]()
        for row in rows:
            lane_id = row["lane_id"]
            place = places.get(lane_id)
            if place is None:
                continue
            idle = row["pending"] == counts[lane_id]
            if not idle or row["stamp"] != place.known.stamp:
                self._dispatcher.give_back(place.share, asks=place.asks)
                if idle:
                    stale.append(lease_of(row))
                continue
            lease = lease_of(row)
            claimed = claimed_from(lease, _waiting(heads[lane_id], lease, row), place.known)
            self._ready.append((claimed, place))
            taken.add(lane_id)
        self._arrange(self._dispatcher)
        if self._ahead is not None:
            for claimed, _ in self._ready:
                self._ahead(claimed.head, claimed.lease)
        if stale:
            await self._let_go(stale)
        return taken

    def _arrange(self, dispatcher: Dispatcher[Item]) -> None:
        """Begin now, or when the time has come."""
        if not self._ready or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._again - loop.time()
        if wait > 0:
            self._timer = loop.call_later(wait, self._begin, dispatcher, context=Context())
        else:
            self._begin(dispatcher)

    def _begin(self, dispatcher: Dispatcher[Item]) -> None:
        self._timer = None
        ready, self._ready = self._ready, []
        for claimed, place in ready:
            dispatcher.adopt(claimed, place.since, asks=place.asks)
        self._again = asyncio.get_running_loop().time() + pause(dispatcher.running, self._gather)

    async def _let_go(self, leases: Sequence[Lease]) -> None:
        """For a claim. The messages are stored, so whoever sent them need not hear of trouble with this."""
        try:
            await self._turns.release(leases, timedelta(0))
        except Exception as error:
            log.warning("leases cannot be let go, they will run out", lanes=len(leases), error=describe(error))


def _waiting(message: NewMessage, lease: Lease, row: asyncpg.Record) -> Waiting:
    """A message as a claim would read it."""
    return Waiting(
        message_id=message.message_id,
        seq=lease.done_seq + 1,
        request=SubmitMessageRequest.FromString(message.stored),
        received_at=row["now"],
        age=0.0,
        chat=message.chat,
        traceparent=message.traceparent,
        tracestate=message.tracestate,
    )
