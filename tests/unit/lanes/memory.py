"""Lanes in memory, work that ends when told, and a dispatcher between them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.runtime.lanes import Dispatcher, Found, Guard, Held, Lease, Room
from services.runtime.lanes.shares import Share

SHARE: Share = ("t", "")


class Store:
    """Lanes that are due, and what was asked of them."""

    def __init__(self) -> None:
        self.due: list[Lease] = []
        self.held: set[UUID] = set()
        self.limits: list[int] = []
        self.renewed: list[tuple[set[UUID], timedelta]] = []
        self.released: list[tuple[UUID, timedelta]] = []
        self.attempts: dict[UUID, int] = {}
        self.fails = 0

    def add(self, count: int = 1, attempts: int = 1) -> list[Lease]:
        now = datetime.now(UTC)
        new = [Lease(uuid4(), "t", 1, 1, 0, attempts, 0, now, False) for _ in range(count)]
        self.due += new
        return new

    async def claim(self, room: Room) -> Found[Lease]:
        limit = room.free
        self.limits.append(limit)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the database is away")
        taken, self.due = self.due[:limit], self.due[limit:]
        self.held |= {lease.lane_id for lease in taken}
        return Found(taken, bool(self.due))

    async def renew(self, leases: Sequence[Held], ttl: timedelta) -> Collection[UUID]:
        self.renewed.append(({lease.lane_id for lease in leases}, ttl))
        return {lease.lane_id for lease in leases} & self.held

    async def release(self, leases: Sequence[Lease], due_in: timedelta) -> None:
        self.released += [(lease.lane_id, due_in) for lease in leases]
        self.attempts |= {lease.lane_id: lease.attempts - 1 for lease in leases}


class Worker:
    """Work that starts, and ends when told."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.guards: dict[UUID, Guard] = {}
        self.finished: list[UUID] = []
        self.most = 0
        self.go = asyncio.Event()
        if at_once:
            self.go.set()

    async def __call__(self, lease: Lease, guard: Guard) -> bool:
        self.guards[lease.lane_id] = guard
        self.most = max(self.most, len(self.guards) - len(self.finished))
        await self.go.wait()
        self.finished.append(lease.lane_id)
        return False


Work = Callable[[Lease, Guard], Awaitable[object]]


def dispatcher(store: Store, work: Work, **settings: float) -> Dispatcher[Lease]:
    concurrency = int(settings.pop("concurrency", 4))
    options: dict[str, Any] = {"poll": 30.0, "gather": 0.0} | settings
    return Dispatcher(
        claim=store.claim, renew=store.renew, release=store.release, work=work, concurrency=concurrency, **options
    )


@asynccontextmanager
async def running(made: Dispatcher[Lease]) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(made.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


@asynccontextmanager
async def beside_a_claim(made: Dispatcher[Lease], store: Store) -> AsyncIterator[Lease]:
    """A running dispatcher that has made its first claim, and a lane that was leased by another statement."""
    async with running(made):
        await until(lambda: store.limits)
        [lease] = Store().add()
        yield lease


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)
