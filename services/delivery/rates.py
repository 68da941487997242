"""How fast a channel may send: the limits service decides; while it is away, a slow pace of this process.

Limits away must neither stop the outbox nor let every replica send as fast as it can. So a part that gets no answer in
time is sent at a pace that all replicas together keep below the provider's limit (`per_minute` each), and limits is
left alone for a few seconds, so that waiting for it costs one call in a while and not each.
"""

import asyncio
import os
import random
from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration

from parley.limits.v1 import limits_pb2

from parley_client.errors import CallError
from parley_client.limits import LimitsClient
from services.delivery.domain.channels import Channel
from services.delivery.domain.pace import Pace, book
from services.delivery.usecases.ports import Grant
from services.runtime.logs import get_logger

log = get_logger(__name__)

HELD = Duration(seconds=3600)
"""A slot is not committed: it counts for as long as it is held, which is longer than a rate's window."""
_BURST = 3
_ASK_AGAIN, _LONGEST = 1.0, 60.0
"""Seconds after which a refused slot is asked for again, at least and at most: a rule may be changed meanwhile."""


class LimitsRates:
    """`Rates` on the limits service."""

    def __init__(
        self,
        client: LimitsClient,
        *,
        max_wait: float = 60.0,
        timeout: float = 1.0,
        away: float = 5.0,
        per_minute: float = 60.0,
        chance: Callable[[], float] = random.random,
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
        self._chance = chance

    async def ask(self, channel: Channel, resource: str) -> Grant:
        """One call's worth. Never raises."""
        now = asyncio.get_running_loop().time()
        if now < self._ask_after:
            return self._local(channel, now)
        try:
            answer = await self._client.reserve(
                limits_pb2.ReserveRequest(
                    tenant_id=channel.tenant_id,
                    request_id=os.urandom(12).hex(),
                    resource=resource,
                    subject=limits_pb2.Subject(channel_id=channel.channel_id, bot_id=channel.bot_id),
                    ttl=HELD,
                    max_wait=self._duration,
                ),
                timeout=self._timeout,
            )
        except CallError as error:
            now = asyncio.get_running_loop().time()
            if now >= self._ask_after:
                log.warning("limits cannot be asked; sending slowly", code=error.code.name, reason=error.reason)
                self._ask_after = now + self._away
            return self._local(channel, now)
        if answer.granted:
            return Grant(True, _seconds(answer.wait))
        return self._refusal(min(_seconds(answer.retry_after) or _ASK_AGAIN, _LONGEST))

    def _local(self, channel: Channel, now: float) -> Grant:
        pace, granted, wait = book(
            self._paces.get(channel.key, Pace()),
            now,
            interval=self._interval,
            burst=_BURST,
            longest=self._max_wait,
        )
        self._paces[channel.key] = pace
        return Grant(True, wait) if granted else self._refusal(wait)

    def _refusal(self, wait: float) -> Grant:
        """Those who are refused come back at times of their own: all slots up to `max_wait` ahead are taken by now, so
        none stays free for it.
        """
        return Grant(False, wait + self._chance() * self._max_wait / 2)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
