"""Whether a part may go to its provider now, and what the provider's answers say of its channel."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.delivery.domain import parts
from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.parts import Part
from services.delivery.providers.base import Provider, Sent
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.ports import Rates
from services.delivery.usecases.progress import Progress
from services.kernel.clock import Clock

PARKED = 600.0
"""Seconds after which parts of a channel that does not send are looked at again; it wakes them before that."""
SHORT_WAIT = 0.1
"""A slot that is granted within so many seconds is waited for with the lease in hand."""
SLOT_LASTS = 5.0
"""A granted slot is good for so many seconds. After that it is asked for again, as late slots used together are a
burst.
"""
REFUSED = 0.25
"""Seconds after which a refused slot is asked for again, at least."""


class Admission:
    """One for all lanes of a process."""

    def __init__(
        self,
        *,
        providers: Mapping[ProviderKind, Provider],
        rates: Rates,
        gates: Gates,
        clock: Clock,
        broken: Callable[[Channel, str], Awaitable[bool]],
        recovered: Callable[[int], None],
    ) -> None:
        """`broken` marks a channel that the provider refuses; False when it was changed meanwhile. `recovered` hears of
        a channel that works again.
        """
        self._providers, self._rates, self._gates, self._clock = providers, rates, gates, clock
        self._broken, self._recovered = broken, recovered

    def obstacle(self, part: Part, channel: Channel) -> float:
        """Seconds that a part has to wait before anybody is asked for anything; 0 for none."""
        now = self._now()
        if part.due > now:
            return (part.due - now) / 1000
        if not channel.sends:
            return PARKED
        return self._gates.wait(channel.key)

    async def wait(self, progress: Progress, index: int, channel: Channel) -> float:
        """Seconds that a part has to wait for a slot of the channel's rate, or for its breaker. 0 means that the call
        is to be made now.
        """
        return await self._slot(progress, index, channel) or await self._gates.admit(channel.key)

    async def learn(self, channel: Channel, result: Sent | Failure) -> float:
        """Takes in what a result says of the channel. Returns for how many seconds its parts wait at least."""
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

    async def _slot(self, progress: Progress, index: int, channel: Channel) -> float:
        """0 when a slot of the channel's rate is in hand, else seconds to wait. A granted slot is kept with the part.

        A refusal is no slot, however soon it says to come back.
        """
        part, now = progress.parts[index], self._now()
        if part.slot and now < part.slot + SLOT_LASTS * 1000:
            wait = (part.slot - now) / 1000
        else:
            grant = await self._rates.ask(channel, self._providers[channel.provider].resource, progress.priority)
            if not grant.granted:
                return max(grant.wait, REFUSED)
            wait = grant.wait
            if wait > SHORT_WAIT:
                progress.set(index, parts.granted(part, self._now() + int(wait * 1000)))
        if wait > SHORT_WAIT:
            return wait
        if wait > 0:
            await asyncio.sleep(wait)
        return 0.0

    def _now(self) -> int:
        """Unix milliseconds."""
        return int(self._clock.now().timestamp() * 1000)
