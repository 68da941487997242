"""Hot hand-over: what is stored for an idle lane is leased and begun by the same statement, and sent by this process.

Between a message and the call to its provider there is no claim, no wake-up and no further commit. What a claim and a
worker would ask for is secured before the statement: a place, a slot of the rate, an open gate.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.delivery.domain import deliveries, parts
from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.outbox import NewDelivery, Priority, Queued
from services.delivery.providers.base import Provider
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.ports import Channels, Claimed, Rates
from services.kernel.clock import Clock
from services.runtime.lanes import Lease
from services.runtime.lanes.shares import Share


class Places(Protocol):
    """The places of this process: a dispatcher."""

    def keep(self, share: Share) -> bool: ...

    def adopt(self, item: Claimed, since: float) -> None: ...

    def give_back(self, share: Share) -> None: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """This process could send a delivery at once. `parts` are the parts to store, of which the first is started.

    `slot`: until when the slot in hand is good. `since`: when the offer was made, by the loop's time.
    """

    item: NewDelivery
    channel: Channel
    parts: Parts
    slot: float
    since: float

    @property
    def share(self) -> Share:
        return self.item.tenant_id, str(self.channel.key)


class Handover:
    """Makes offers before a statement. After it, each offer is taken, declined or has failed."""

    def __init__(
        self,
        *,
        channels: Channels,
        providers: Mapping[ProviderKind, Provider],
        rates: Rates,
        gates: Gates,
        places: Places,
        clock: Clock,
    ) -> None:
        self._channels, self._providers = channels, providers
        self._rates, self._gates, self._places, self._clock = rates, gates, places, clock

    def offer(self, items: Sequence[NewDelivery]) -> list[Offer]:
        """For the first delivery of each lane, where nothing stands in its way."""
        firsts: dict[object, NewDelivery] = {}
        for item in items:
            firsts.setdefault(item.lane_id, item)
        return [offer for item in firsts.values() if (offer := self._offer(item)) is not None]

    def taken(self, offer: Offer, lease: Lease, waiting: Sequence[Queued]) -> None:
        """The lane was idle: it is leased, with these deliveries, the first of which is started."""
        self._places.adopt(Claimed(lease, waiting, more=False, begun=True), offer.since)

    def declined(self, offer: Offer) -> None:
        """The lane was busy, or the delivery was stored before."""
        self._places.give_back(offer.share)
        self._rates.put_back(offer.channel.key, offer.slot)

    def failed(self, offer: Offer) -> None:
        """Nobody knows what was stored. A lease may have to run out, and the slot counts as used."""
        self._places.give_back(offer.share)

    def _offer(self, item: NewDelivery) -> Offer | None:
        if item.priority is Priority.BROADCAST:  # it would take the place of a reply that comes in a moment
            return None
        channel = self._channels.by_key(item.channel_key)
        if channel is None or not channel.sends or not self._gates.is_open(channel.key):
            return None
        resource = self._providers[channel.provider].resource
        since = asyncio.get_running_loop().time()
        share = item.tenant_id, str(channel.key)
        if not self._places.keep(share):
            return None
        slot = self._rates.take(channel, resource)
        if slot is None:
            self._places.give_back(share)
            return None
        fresh = deliveries.fresh(len(item.rendered))
        now = int(self._clock.now().timestamp() * 1000)
        begun = deliveries.with_part(fresh, 0, parts.start(fresh[0], now))
        return Offer(item, channel, begun, slot, since)
