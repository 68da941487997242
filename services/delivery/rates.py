"""How fast a channel may send: the limits service decides; while it is away, a slow pace of this process.

A channel that sends much takes its slots in small lots (see domain/slot_lots.py) and asks nobody for the slots in hand.
They stay good if limits goes away, and are lost if the process dies.

When limits is away, the outbox must not stop, and the replicas must not send as fast as they can either. So each
replica then sends at a pace of its own (`per_minute`), which keeps all of them together below the provider's limit, and
asks limits again only after a few seconds, so that few calls wait for it in vain.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextvars import Context
from math import inf
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from parley.limits.v1 import limits_pb2

from parley_client.errors import CallError
from services.delivery.domain.channels import Channel
from services.delivery.domain.outbox import Priority
from services.delivery.domain.pace import Pace, book
from services.delivery.domain.slot_lots import SHARE, SlotLots
from services.delivery.usecases.ports import Grant
from services.runtime.logs import get_logger

log = get_logger(__name__)

HELD = Duration(seconds=3600)
"""A slot is never committed. It counts while it is held, which is longer than a rate's window."""
USED_WITHIN = Duration(seconds=1, nanos=500_000_000)
"""A slot of a lot is used so long after its grant at most: it is in hand for a second, and then there is a commit."""
_BURST = 3
_ASK_AGAIN, _LONGEST = 1.0, 60.0
"""Seconds after which a refused slot is asked for again, at least and at most: a rule may be changed meanwhile."""


class Limits(Protocol):
    """The call of the limits service that is needed here."""

    def reserve(
        self, request: limits_pb2.ReserveRequest, *, timeout: float | None = None
    ) -> Awaitable[limits_pb2.ReserveResponse]:
        """Raises CallError."""


class LimitsRates:
    """`Rates` on the limits service."""

    def __init__(
        self,
        client: Limits,
        *,
        max_wait: float = 60.0,
        timeout: float = 1.0,
        away: float = 5.0,
        per_minute: float = 60.0,
        chance: Callable[[], float] = random.random,
        time: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`max_wait`: how far ahead a slot may be. `away`: for so long limits is not asked after a failure.

        `timeout`: of the call. All in seconds. `per_minute`: calls of one channel while limits is away. `chance` is
        random in [0, 1).
        """
        self._client = client
        self._max_wait = max_wait
        self._duration = Duration(seconds=int(max_wait), nanos=int(max_wait % 1 * 1e9))
        self._timeout = timeout
        self._away = away
        self._interval = 60.0 / per_minute
        self._ask_after = 0.0
        self._paces: dict[int, Pace] = {}
        self._lots: dict[int, SlotLots] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._chance = chance
        self._time = time

    async def ask(self, channel: Channel, resource: str, priority: Priority) -> Grant:
        """One call's worth. Never raises. Slots in hand are for replies, and so is the slow pace: a broadcast asks for
        each slot, and waits while limits is away.
        """
        if priority is Priority.BROADCAST:
            return await self._ask_for_broadcast(channel, resource)
        if self.take(channel, resource) is not None:
            return Grant(True, 0.0)
        if self._time() < self._ask_after:
            return self._local(channel)
        if self._lots_of(channel).size(self._time()) > 1:
            if channel.key not in self._asking:
                self._asking[channel.key] = self._ask_for_lot(channel, resource)
            await asyncio.shield(self._asking[channel.key])
            if self.take(channel, resource) is not None:
                return Grant(True, 0.0)
            if self._time() < self._ask_after:
                return self._local(channel)
        return await self._ask_for_one(channel, resource)

    def take(self, channel: Channel, resource: str) -> float | None:
        """A slot in hand, and until when it is good, by `time`; None when there is none."""
        lots, now = self._lots_of(channel), self._time()
        until = lots.take(now)
        if until is not None and now >= self._ask_after and channel.key not in self._asking and lots.runs_low(now):
            self._asking[channel.key] = self._ask_for_lot(channel, resource)
        return until

    def put_back(self, channel_key: int, until: float) -> None:
        """A slot that was taken was not needed."""
        if channel_key in self._lots:
            self._lots[channel_key].put_back(until)

    def drop(self, channel_key: int) -> None:
        """The channel was changed, or its provider wants a pause: what is in hand is not to be used."""
        if channel_key in self._lots:
            self._lots[channel_key].drop()

    def forget(self, channel_key: int) -> None:
        """The channel is gone."""
        self._lots.pop(channel_key, None)
        self._paces.pop(channel_key, None)

    def _lots_of(self, channel: Channel) -> SlotLots:
        lots = self._lots.get(channel.key)
        if lots is None:
            lots = self._lots[channel.key] = SlotLots()
        return lots

    def _ask_for_lot(self, channel: Channel, resource: str) -> "asyncio.Task[None]":
        """One at a time for a channel. It belongs to no caller's trace."""
        task = asyncio.get_running_loop().create_task(self._fetch_lot(channel, resource), context=Context())
        task.add_done_callback(lambda _: self._asking.pop(channel.key, None))
        return task

    async def _fetch_lot(self, channel: Channel, resource: str) -> None:
        lots, since = self._lots_of(channel), self._time()
        request = self._request(channel, resource)
        request.units = lots.size(since)
        request.lasts.CopyFrom(USED_WITHIN)
        answer = await self._reserve(request, lots)
        if answer is None:
            return
        if not answer.granted or answer.HasField("wait"):
            lots.refused(self._time())
        elif self._lots.get(channel.key) is lots:
            lots.granted(request.units, since)

    async def _ask_for_one(self, channel: Channel, resource: str) -> Grant:
        lots, request = self._lots_of(channel), self._request(channel, resource)
        request.max_wait.CopyFrom(self._duration)
        answer = await self._reserve(request, lots)
        if answer is None:
            return self._local(channel)
        if answer.granted:
            lots.used(self._time())
            return Grant(True, _seconds(answer.wait))
        return self._refusal(min(_seconds(answer.retry_after) or _ASK_AGAIN, _LONGEST))

    async def _ask_for_broadcast(self, channel: Channel, resource: str) -> Grant:
        answer = None
        if self._time() >= self._ask_after:
            request = self._request(channel, resource)
            request.priority = limits_pb2.PRIORITY_BROADCAST
            answer = await self._reserve(request, self._lots_of(channel))
        if answer is None:
            return self._refusal(max(self._ask_after - self._time(), _ASK_AGAIN))
        if answer.granted:
            return Grant(True, _seconds(answer.wait))
        return self._refusal(min(_seconds(answer.retry_after) or _ASK_AGAIN, _LONGEST))

    def _request(self, channel: Channel, resource: str) -> limits_pb2.ReserveRequest:
        return limits_pb2.ReserveRequest(
            tenant_id=channel.tenant_id,
            request_id=os.urandom(12).hex(),
            resource=resource,
            subject=limits_pb2.Subject(channel_id=channel.channel_id, bot_id=channel.bot_id),
            ttl=HELD,
        )

    async def _reserve(self, request: limits_pb2.ReserveRequest, lots: SlotLots) -> limits_pb2.ReserveResponse | None:
        """None when limits cannot be asked."""
        try:
            answer = await self._client.reserve(request, timeout=self._timeout)
        except CallError as error:
            now = self._time()
            if now >= self._ask_after:
                log.warning("limits cannot be asked; sending slowly", code=error.code.name, reason=error.reason)
                self._ask_after = now + self._away
            return None
        lots.room = min((SHARE * each.limit - each.used for each in answer.statuses if not each.shadow), default=inf)
        return answer

    def _local(self, channel: Channel) -> Grant:
        pace, granted, wait = book(
            self._paces.get(channel.key, Pace()),
            self._time(),
            interval=self._interval,
            burst=_BURST,
            longest=self._max_wait,
        )
        self._paces[channel.key] = pace
        return Grant(True, wait) if granted else self._refusal(wait)

    def _refusal(self, wait: float) -> Grant:
        """Callers that are refused come back at different times. No slot stays free meanwhile: all of them up to
        `max_wait` ahead are taken.
        """
        return Grant(False, wait + self._chance() * self._max_wait / 2)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
