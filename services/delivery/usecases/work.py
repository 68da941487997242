"""Works on a lane: sends what waits in it, in order, and stores what comes of it."""

import random
from collections.abc import Callable, Mapping

from services.delivery.domain import deliveries, parts
from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.outbox import Priority
from services.delivery.domain.parts import PartState
from services.delivery.domain.retry import RetryPolicy
from services.delivery.providers.base import Outbound, Provider, Sent
from services.delivery.usecases import spans
from services.delivery.usecases.admission import Admission
from services.delivery.usecases.ports import Calls, Channels, Claimed, Record, Started, WorkStore
from services.delivery.usecases.progress import DONE, Ended, Progress, conclude, finish
from services.kernel.clock import Clock
from services.runtime.crashpoints import reach
from services.runtime.lanes import Guard, Settle
from services.runtime.logs import get_logger

log = get_logger(__name__)

MARGIN = 3.0
"""Seconds of lease beyond a call's timeout, for the commits before and after it."""
CONFLICTS = 10
"""How often a result is put on top of somebody else's change."""


class Worker:
    """`work` is a dispatcher's. One for all lanes of a process."""

    def __init__(
        self,
        *,
        store: WorkStore,
        channels: Channels,
        providers: Mapping[ProviderKind, Provider],
        calls: Calls,
        admission: Admission,
        policy: RetryPolicy,
        clock: Clock,
        later: Callable[[float], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`later` hears in how many seconds a lane is due. `chance` is random in [0, 1)."""
        self._store, self._channels, self._providers, self._calls = store, channels, providers, calls
        self._admission, self._policy, self._clock = admission, policy, clock
        self._later, self._chance = later, chance

    async def work(self, claimed: Claimed, guard: Guard) -> bool:
        """Sends until the head of the lane has to wait or nothing is left, and settles the lease.

        False says that no claim need follow.
        """
        lease, waiting = claimed.lease, claimed.deliveries
        end = lease.done_seq + lease.pending
        left: int | None = 0
        priority = min((delivery.priority for delivery in waiting), default=Priority.REPLY)
        for delivery in waiting:
            through = None
            if delivery is waiting[-1]:
                through = delivery.seq if claimed.more else end
            progress = Progress(delivery, lease, through, delivery.revision, delivery.parts, priority)
            ended = await self._deliver(progress, guard, begun=claimed.begun and delivery is waiting[0])
            if ended.wait is not None:
                self._later(ended.wait)
                return False
            left = ended.left
        if not waiting:  # what the lane counts was moved to another lane
            left = await self._store.record(Record(settle=Settle(lease.lane_id, lease.fence, lease.pending)))
        return bool(left)

    async def _deliver(self, progress: Progress, guard: Guard, *, begun: bool) -> Ended:
        """One part after the other. `begun`: the call of the first one was noted as started when it was stored."""
        delivery = progress.delivery
        if delivery.fault:  # a dead letter; the lane goes on
            progress.give_up()
            return await self._over(progress, f"UNREADABLE: {delivery.fault}")
        while (index := deliveries.head(progress.parts)) is not None:
            channel = await self._channel(delivery.channel_key)
            if not begun or channel is None:
                begun = False
                self._mark_crashed(progress, index)
                if (index := deliveries.head(progress.parts)) is None:
                    break
                if channel is None:
                    progress.set(index, parts.killed(progress.parts[index]))
                    return await self._over(progress, "the channel was deleted")
                wait = self._admission.obstacle(progress.parts[index], channel)
                if wait > 0:
                    return await self._put_off(progress, wait)
            with spans.processing(delivery):
                ended = await self._attempt(progress, index, channel, guard, begun=begun)
            if ended is not None:
                return ended
            begun = False
        return await self._over(progress, deliveries.last_error(progress.parts))

    async def _attempt(
        self, progress: Progress, index: int, channel: Channel, guard: Guard, *, begun: bool
    ) -> Ended | None:
        """Admits, starts, makes and records one call. None: go on with the next part."""
        if not begun:
            wait = await self._admission.wait(progress, index, channel)
            if wait > 0:
                return await self._put_off(progress, wait)
            await guard.ensure(self._calls.timeout + MARGIN)
            if not await self._start(progress, index):
                return await self._let_go(progress)
        await guard.ensure(self._calls.timeout)  # the commit may have taken its time
        reach("delivery.after_started")
        result = await self._call(progress, index, channel)
        reach("delivery.after_call")
        parked = await self._admission.learn(channel, result)
        ended = await self._record(progress, index, result, parked)
        reach("delivery.after_record")
        return ended

    async def _start(self, progress: Progress, index: int) -> bool:
        """Notes that a call is about to be made. False when the lease is lost or the delivery was changed."""
        progress.set(index, parts.start(progress.parts[index], self._now()))
        lease = progress.lease
        started = Started(progress.delivery, progress.revision, progress.parts, lease.lane_id, lease.fence)
        if not await self._store.start(started):
            return False
        progress.stored()
        return True

    async def _call(self, progress: Progress, index: int, channel: Channel) -> Sent | Failure:
        """A fault of an adapter is a counted try of unknown outcome, with its name, and no loop."""
        delivery = progress.delivery
        part_id = delivery.part_id(index, len(progress.parts[index].attempts))
        outbound = Outbound(part_id, delivery.chat_id, delivery.rendered[index])
        try:
            return await self._calls.make(self._providers[channel.provider], outbound, channel)
        except Exception as error:
            log.error("a provider's adapter failed", part=part_id, exc_info=error, alert=True)
            return Failure(FailureKind.UNKNOWN_OUTCOME, 0, f"{type(error).__name__} in the provider's adapter")

    async def _record(self, progress: Progress, index: int, result: Sent | Failure, parked: float) -> Ended | None:
        """Stores the result and what follows from it. None: go on with the next part."""
        now, chance = self._now(), self._chance()
        delivery_id = progress.delivery.delivery_id
        number = len(progress.parts[index].attempts) - 1
        begun_at = progress.parts[index].attempts[number].started
        for _ in range(CONFLICTS):
            progress.note(index, number, result, now, self._policy, chance)
            record, ended = conclude(progress, index, now, self._policy, parked)
            left = await self._store.record(record)
            if left is not None:
                progress.stored()
                return Ended(left=left) if ended is DONE else ended
            # A status, an operator or another worker changed the delivery during the call: the result goes on top.
            fresh = await self._store.read(progress.delivery.tenant_id, delivery_id)
            if fresh is None or [each.started for each in fresh.parts[index].attempts][number:][:1] != [begun_at]:
                break
            progress.read_again(fresh)
        log.error("a result cannot be stored", delivery_id=str(delivery_id), part=index, alert=True)
        return await self._let_go(progress)

    def _mark_crashed(self, progress: Progress, index: int) -> None:
        """A part that is found started was left so by a process that died: its outcome is unknown."""
        part = progress.parts[index]
        if part.state is PartState.STARTED:
            delivery_id = str(progress.delivery.delivery_id)
            log.warning("a part was found started: its outcome is unknown", delivery_id=delivery_id, part=index)
            progress.set(index, parts.crashed(part, self._now(), self._policy))

    async def _put_off(self, progress: Progress, wait: float) -> Ended:
        """The head of the lane waits, and its lease is let go."""
        settle = progress.settle(progress.delivery.seq - 1, wait)
        if await self._store.record(Record(progress.change(), settle)) is not None:
            return Ended(wait)
        return await self._let_go(progress)

    async def _over(self, progress: Progress, error: str) -> Ended:
        """Nothing is left to send."""
        record = finish(progress, error, self._now())
        if record == Record():
            return DONE
        left = await self._store.record(record)
        return await self._let_go(progress) if left is None else Ended(left=left)

    async def _let_go(self, progress: Progress) -> Ended:
        """Another worker has the lane, or a status or an operator changed the delivery: whoever claims it next reads it
        again.
        """
        await self._store.record(Record(settle=progress.settle(progress.delivery.seq - 1)))
        return Ended(0.0)

    async def _channel(self, key: int) -> Channel | None:
        channel = self._channels.by_key(key)
        if channel is None:
            await self._channels.refresh()
            channel = self._channels.by_key(key)
        return channel

    def _now(self) -> int:
        """Unix milliseconds."""
        return int(self._clock.now().timestamp() * 1000)
