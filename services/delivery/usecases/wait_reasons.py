"""Says why a reply waits, from its row, its channel and what this process knows of the channel's provider."""

from services.delivery.domain import deliveries
from services.delivery.domain.outbox import Delivery
from services.delivery.domain.waiting import Road, Waiting, why
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.ports import Channels
from services.kernel.clock import Clock


class WaitReasons:
    """One for a process."""

    def __init__(self, channels: Channels, gates: Gates, clock: Clock) -> None:
        self._channels = channels
        self._gates = gates
        self._clock = clock

    def of(self, delivery: Delivery) -> Waiting | None:
        """What a delivery waits for; None when nothing of it is left to send."""
        index = deliveries.head(delivery.parts)
        if index is None or delivery.place is None:
            return None
        part = delivery.parts[index]
        seconds = self._clock.now().timestamp()
        return why(
            delivery.place,
            self._road(delivery.channel_key, seconds),
            due=part.due,
            slot=part.slot,
            last_error=part.attempts[-1].error if part.attempts else "",
            now=int(seconds * 1000),
        )

    def _road(self, channel_key: int, now: float) -> Road:
        channel = self._channels.by_key(channel_key)
        closed = self._gates.wait(channel_key)
        until = int((now + closed) * 1000) if closed > 0 else 0
        if channel is None:
            return Road(closed_until=until)
        return Road(channel.enabled, channel.broken_reason, until)
