"""What stands in the way of a hot hand-over, and that nothing is kept for one that does not come about."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.outbox import NewDelivery, Priority
from services.delivery.domain.parts import PartState
from services.delivery.providers.chat2desk import Chat2DeskSettings
from services.delivery.providers.registry import PROVIDERS
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.handover import Handover
from services.delivery.usecases.ports import Claimed, Grant, Shut
from services.kernel.breaker import BreakerPolicy
from services.kernel.clock import SystemClock
from services.runtime.content import of_text
from services.runtime.lanes.shares import Share

AT = datetime(2026, 1, 1, tzinfo=UTC)
CHANNEL = Channel(1, "acme", "c", ProviderKind.CHAT2DESK, "bot", Chat2DeskSettings(), True, "", {}, 1, AT, AT)


@dataclass
class World:
    """All that a hand-over needs."""

    channel: Channel | None = CHANNEL
    places: int = 2
    slots: int = 2

    def by_id(self, channel_id: str) -> Channel | None:
        return self.channel

    def by_key(self, key: int) -> Channel | None:
        return self.channel

    async def refresh(self) -> None: ...

    def keep(self, share: Share) -> bool:
        assert share == ("acme", "1")
        self.places -= 1
        return self.places >= 0 or self._none()

    def _none(self) -> bool:
        self.places += 1
        return False

    def give_back(self, share: Share) -> None:
        self.places += 1

    def adopt(self, item: Claimed, since: float) -> None: ...

    async def ask(self, channel: Channel, resource: str, priority: Priority) -> Grant:
        return Grant(True, 0.0)

    def take(self, channel: Channel, resource: str) -> float | None:
        assert resource == "provider.chat2desk"
        if not self.slots:
            return None
        self.slots -= 1
        return 7.0

    def put_back(self, channel_key: int, until: float) -> None:
        assert until == 7.0
        self.slots += 1

    def drop(self, channel_key: int) -> None: ...


@dataclass
class Store:
    """Gates that nobody else knows."""

    written: list[Shut | None] = field(default_factory=list)

    async def read(self) -> dict[int, Shut]:
        return {}

    async def write(self, channel_key: int, shut: Shut | None) -> None:
        self.written.append(shut)

    async def probe(self, channel_key: int, seconds: float) -> bool:
        return True


def made(world: World) -> tuple[Handover, Gates]:
    clock = SystemClock()
    gates = Gates(BreakerPolicy(failures=1), Store(), clock, told=lambda: None)
    handover = Handover(channels=world, providers=PROVIDERS, rates=world, gates=gates, places=world, clock=clock)
    return handover, gates


def item(number: int, conversation: int, *parts: str) -> NewDelivery:
    ids = UUID(int=number), UUID(int=conversation)
    content = of_text("text")
    rendered = tuple(map(of_text, parts)) or (content,)
    return NewDelivery(ids[0], "acme", str(number), 1, "c", ids[1], "chat", None, 0, content, rendered, "", "", ids[1])


async def test_the_first_of_each_lane_is_offered_with_its_first_part_started() -> None:
    world = World()
    handover, _ = made(world)
    offers = handover.offer([item(1, 1, "te", "xt"), item(2, 1), item(3, 2)])
    assert [offer.item.delivery_id.int for offer in offers] == [1, 3]
    assert [part.state for part in offers[0].parts] == [PartState.STARTED, PartState.PENDING]
    assert (world.places, world.slots) == (0, 0)
    handover.declined(offers[0])
    assert (world.places, world.slots) == (1, 1)
    handover.failed(offers[1])
    assert (world.places, world.slots) == (2, 1), "a slot of which nobody knows whether it was used counts as used"


async def test_without_a_place_or_a_slot_nothing_is_offered_and_nothing_kept() -> None:
    for world in (World(places=0), World(slots=0)):
        before = replace(world)
        assert made(world)[0].offer([item(1, 1)]) == []
        assert world == before


async def test_nothing_is_offered_for_a_channel_that_does_not_send() -> None:
    for channel in (None, replace(CHANNEL, enabled=False), replace(CHANNEL, broken_reason="401")):
        world = World(channel)
        assert made(world)[0].offer([item(1, 1)]) == []
        assert (world.places, world.slots) == (2, 2)


async def test_nothing_is_offered_while_a_pause_lasts_or_a_probe_is_to_be_made() -> None:
    for shut in ("paused", "open"):
        world = World()
        handover, gates = made(world)
        if shut == "paused":
            gates.limited(1, 30.0)
        else:
            gates.failed(1)
        assert handover.offer([item(1, 1)]) == []
        assert (world.places, world.slots) == (2, 2)
        await gates.close()
