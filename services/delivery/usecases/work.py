"""Works on a lane: sends what waits in it, in order, and stores what comes of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

from services.delivery.domain import deliveries, parts
from services.delivery.domain.channels import Channel
from services.delivery.domain.channels import Provider as ProviderKind
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.parts import OPEN, Part, PartState
from services.delivery.domain.retry import RetryPolicy
from services.delivery.providers.base import Outbound, Provider, Sent
from services.delivery.usecases import spans
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.ports import Calls, Channels, Claimed, Rates, Record, Started, WorkStore
from services.delivery.usecases.visit import DONE, Ended, Visit, conclude, finish
from services.kernel.clock import Clock
from services.runtime.crashpoints import reach
from services.runtime.lanes import Guard, Settle
from services.runtime.logs import get_logger

log = get_logger(__name__)

PARKED = 600.0
"""Seconds after which parts of a channel that does not send are looked at again; it wakes them before that."""
SHORT_WAIT = 0.1
"""A slot that is granted within so many seconds is waited for with the lease in hand."""
SLOT_LASTS = 5.0
"""A granted slot is good for so many seconds; later it is asked for again, as late slots used together are a burst."""
REFUSED = 0.25
"""Seconds after which a refused slot is asked for again, at least."""
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
        rates: Rates,
        gates: Gates,
        policy: RetryPolicy,
        clock: Clock,
        broken: Callable[[Channel, str], Awaitable[bool]],
        recovered: Callable[[int], None],
        later: Callable[[float], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`broken` marks a channel that the provider refuses; False when it was changed meanwhile.

        `recovered` hears of a channel that works again, `later` in how many seconds a lane is due. `chance` is
        random in [0, 1).
        """
        self._store, self._channels, self._providers, self._calls = store, channels, providers, calls
        self._rates, self._gates, self._policy, self._clock = rates, gates, policy, clock
        self._broken, self._recovered, self._later, self._chance = broken, recovered, later, chance

    async def work(self, claimed: Claimed, guard: Guard) -> bool:
        """Sends until the head of the lane has to wait or nothing is left, and settles the lease.

        False says that no claim need follow.
        """
        lease, waiting = claimed.lease, claimed.deliveries
        end = lease.done_seq + lease.pending
        left: int | None = 0
        for delivery in waiting:
            through = None
            if delivery is waiting[-1]:
                through = delivery.seq if claimed.more else end
            visit = Visit(delivery, lease, through, delivery.revision, delivery.parts)
            begun = claimed.begun and delivery is waiting[0]
            ended = await (self._go_on(visit, guard) if begun else self._deliver(visit, guard))
            if ended.wait is not None:
                self._later(ended.wait)
                return False
            left = ended.left
        if not waiting:  # what the lane counts was moved to another lane
            left = await self._store.record(Record(settle=Settle(lease.lane_id, lease.fence, lease.pending)))
        return bool(left)

    async def _go_on(self, visit: Visit, guard: Guard) -> Ended:
        """Makes the call that was noted as started when the delivery was stored, and then what is left to do."""
        channel = await self._channel(visit.delivery.channel_key)
        if channel is not None:
            with spans.processing(visit.delivery):
                ended = await self._make_call(visit, 0, channel, guard)
            if ended is not None:
                return ended
        return await self._deliver(visit, guard)

    async def _deliver(self, visit: Visit, guard: Guard) -> Ended:
        if visit.delivery.fault:  # a dead letter; the lane goes on
            for position, part in enumerate(visit.parts):
                if part.state in OPEN:
                    visit.set(position, parts.killed(part))
            return await self._over(visit, f"UNREADABLE: {visit.delivery.fault}")
        while (index := deliveries.head(visit.parts)) is not None:
            part = visit.parts[index]
            if part.state is PartState.STARTED:
                delivery_id = str(visit.delivery.delivery_id)
                log.warning("a part was found started: its outcome is unknown", delivery_id=delivery_id, part=index)
                part = parts.crashed(part, self._now(), self._policy)
                visit.set(index, part)
                continue
            channel = await self._channel(visit.delivery.channel_key)
            if channel is None:
                visit.set(index, parts.killed(part))
                return await self._over(visit, "the channel was deleted")
            wait = self._obstacle(part, channel)
            if wait > 0:
                return await self._put_off(visit, wait)
            with spans.processing(visit.delivery):
                ended = await self._send(visit, index, channel, guard)
            if ended is not None:
                return ended
        return await self._over(visit, deliveries.last_error(visit.parts))

    async def _channel(self, key: int) -> Channel | None:
        channel = self._channels.by_key(key)
        if channel is None:
            await self._channels.refresh()
            channel = self._channels.by_key(key)
        return channel

    def _obstacle(self, part: Part, channel: Channel) -> float:
        """Seconds that the part has to wait before anybody is asked for anything; 0 for none."""
        now = self._now()
        if part.due > now:
            return (part.due - now) / 1000
        if not channel.sends:
            return PARKED
        return self._gates.wait(channel.key)

    async def _send(self, visit: Visit, index: int, channel: Channel, guard: Guard) -> Ended | None:
        """One call, if the channel's rate allows it now. None: go on with the next part."""
        wait = await self._slot(visit, index, channel)
        wait = wait or await self._gates.admit(channel.key)
        if wait > 0:
            return await self._put_off(visit, wait)
        await guard.ensure(self._calls.timeout + MARGIN)
        visit.set(index, parts.start(visit.parts[index], self._now()))
        if not await self._start(visit):
            return await self._read_again(visit)
        return await self._make_call(visit, index, channel, guard)

    async def _make_call(self, visit: Visit, index: int, channel: Channel, guard: Guard) -> Ended | None:
        """The call whose start is stored. None: go on with the next part."""
        await guard.ensure(self._calls.timeout)  # the commit may have taken its time
        reach("delivery.after_started")
        content = visit.delivery.rendered[index]
        number = len(visit.parts[index].attempts)
        outbound = Outbound(visit.delivery.part_id(index, number), visit.delivery.chat_id, content)
        result = await self._call(outbound, channel)
        reach("delivery.after_call")
        ended = await self._came_of_it(visit, index, channel, result)
        reach("delivery.after_record")
        return ended

    async def _call(self, outbound: Outbound, channel: Channel) -> Sent | Failure:
        """A fault of an adapter is a counted try of unknown outcome, with its name, and no loop."""
        try:
            return await self._calls.make(self._providers[channel.provider], outbound, channel)
        except Exception as error:
            log.error("a provider's adapter failed", part=outbound.part_id, exc_info=error, alert=True)
            return Failure(FailureKind.UNKNOWN_OUTCOME, 0, f"{type(error).__name__} in the provider's adapter")

    async def _slot(self, visit: Visit, index: int, channel: Channel) -> float:
        """0 when a slot of the channel's rate is in hand, else seconds to wait. A granted slot is kept with the part.

        A refusal is no slot, however soon it says to come back.
        """
        part, now = visit.parts[index], self._now()
        if part.slot and now < part.slot + SLOT_LASTS * 1000:
            wait = (part.slot - now) / 1000
        else:
            grant = await self._rates.ask(channel, self._providers[channel.provider].resource)
            if not grant.granted:
                return max(grant.wait, REFUSED)
            wait = grant.wait
            if wait > SHORT_WAIT:
                visit.set(index, parts.granted(part, self._now() + int(wait * 1000)))
        if wait > SHORT_WAIT:
            return wait
        if wait > 0:
            await asyncio.sleep(wait)
        return 0.0

    async def _start(self, visit: Visit) -> bool:
        lease = visit.lease
        started = Started(visit.delivery, visit.revision, visit.parts, lease.lane_id, lease.fence)
        if not await self._store.start(started):
            return False
        visit.stored()
        return True

    async def _came_of_it(self, visit: Visit, index: int, channel: Channel, result: Sent | Failure) -> Ended | None:
        """Stores the result and what follows from it. None: go on with the next part."""
        now, chance = self._now(), self._chance()
        parked = await self._learn(channel, result)
        number = len(visit.parts[index].attempts) - 1
        begun = visit.parts[index].attempts[number].started
        for _ in range(CONFLICTS):
            self._note(visit, index, number, result, now, chance)
            record, ended = conclude(visit, index, now, self._policy, parked)
            left = await self._store.record(record)
            if left is not None:
                visit.stored()
                return Ended(left=left) if ended is DONE else ended
            # A status, an operator or another worker changed the delivery during the call: the result goes on top.
            fresh = await self._store.read(visit.delivery.tenant_id, visit.delivery.delivery_id)
            if fresh is None or [each.started for each in fresh.parts[index].attempts][number:][:1] != [begun]:
                break
            visit.read_again(fresh)
        log.error("a result cannot be stored", delivery_id=str(visit.delivery.delivery_id), part=index, alert=True)
        return await self._read_again(visit)

    def _note(self, visit: Visit, index: int, number: int, result: Sent | Failure, now: int, chance: float) -> None:
        """Writes the result of an attempt down, whatever became of its part meanwhile."""
        part = visit.parts[index]
        if isinstance(result, Sent):
            visit.set(index, parts.sent(part, now, result.provider_message_id, number))
            visit.named = (index, result.provider_message_id)
        else:
            visit.set(index, parts.failed(part, result, now, self._policy, chance, number))

    async def _learn(self, channel: Channel, result: Sent | Failure) -> float:
        """What the result says of the channel. Returns for how long its parts are parked."""
        if isinstance(result, Sent) or result.kind is FailureKind.TERMINAL:
            if self._gates.answered(channel.key):
                self._recovered(channel.key)
        elif result.kind is FailureKind.FATAL:
            reason = f"HTTP {result.http_status}: {result.error}" if result.http_status else result.error
            return PARKED if await self._broken(channel, reason) else 1.0
        elif result.rate_limited:
            self._rates.drop(channel.key)
            return self._gates.limited(channel.key, result.retry_after)
        else:
            self._gates.failed(channel.key)
        return 0.0

    async def _put_off(self, visit: Visit, wait: float) -> Ended:
        """The head of the lane waits, and its lease is let go."""
        settle = visit.settle(visit.delivery.seq - 1, wait)
        if await self._store.record(Record(visit.change(), settle)) is not None:
            return Ended(wait)
        return await self._read_again(visit)

    async def _over(self, visit: Visit, error: str) -> Ended:
        """Nothing is left to send."""
        record = finish(visit, error, self._now())
        if record == Record():
            return DONE
        left = await self._store.record(record)
        return await self._read_again(visit) if left is None else Ended(left=left)

    async def _read_again(self, visit: Visit) -> Ended:
        """Another worker has the lane, or a status or an operator changed the delivery."""
        await self._store.record(Record(settle=visit.settle(visit.delivery.seq - 1)))
        return Ended(0.0)

    def _now(self) -> int:
        """Unix milliseconds."""
        return int(self._clock.now().timestamp() * 1000)
