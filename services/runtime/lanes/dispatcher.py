"""Leases lanes that are due and works on them, so many at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from services.runtime.lanes.guard import Guard
from services.runtime.lanes.shares import FAIR, Fairness, Room, Share, Shares
from services.runtime.lanes.types import Found, Held, Lease, LeaseLost
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)


class HasLease(Protocol):
    """A lease, with whatever payload the claim fetched along."""

    @property
    def lease(self) -> Lease: ...


T = TypeVar("T", bound=HasLease)

Claim = Callable[[Room], Awaitable[Found[T]]]
"""Leases lanes for which there is room."""
Renew = Callable[[Sequence[Held], timedelta], Awaitable[Collection[UUID]]]
"""Gives leases at least so long from now; returns those still held."""
Release = Callable[[Sequence[Lease], timedelta], Awaitable[object]]
"""Lets leases go with nothing done and no attempt counted; their lanes are due after so long."""
Work = Callable[[T, Guard], Awaitable[object]]
"""Works on a lane and settles it.

False says that nothing is left in the lane, so that no claim need follow.
"""


FEW, CROWD = 4, 32
"""Lanes in work up to which what comes hardly waits, and from which on it waits for all of `gather`."""


def never(_: object) -> bool:
    """For lanes of which none asks a model."""
    return False


def pause(working: int, gather: float) -> float:
    """Seconds until work begins again, so that what comes meanwhile begins together: in a crowd few large batches cost
    less than many small ones, and where hardly anything is in work there is no company to wait for."""
    return gather * min(max(working, FEW), CROWD) / CROWD


class Dispatcher(Generic[T]):
    """One per process and kind of lane.

    It claims for all free places in one statement: when woken, when work ends, and every `poll` in case a
    wake-up was lost. In a crowd claims start at least `gather` apart (see `pause`), so that what arrives together is
    claimed together; the first one after a quiet time leaves at once. Places are
    shared out by `fairness`; `asks` says whether work on a lane will ask a model. Leases last
    `ttl` and are renewed from a third of it on. Work whose lease is lost has `grace` to notice; then it is
    cancelled. Work that raises has its lease let go and is due again after a growing delay. All times are in
    seconds.
    """

    def __init__(
        self,
        *,
        claim: Claim[T],
        renew: Renew,
        release: Release,
        work: Work[T],
        concurrency: int,
        asks: Callable[[T], bool] = never,
        fairness: Fairness = FAIR,
        ttl: float = 60.0,
        poll: float = 1.0,
        gather: float = 0.005,
        drain: float = 10.0,
        grace: float = 1.0,
    ) -> None:
        self._claim, self._renew, self._release, self._work = claim, renew, release, work
        self._asks = asks
        self._shares = Shares(concurrency, fairness)
        self._ttl, self._poll, self._gather, self._drain, self._grace = ttl, poll, gather, drain, grace
        self._running: dict[asyncio.Task[None], Guard] = {}
        self._woken = asyncio.Event()
        self._freed = asyncio.Event()
        self._left = self._left_patient = False
        self._open = False
        self._claiming = False
        self._kept = 0
        self._closing = False

    @property
    def running(self) -> int:
        """How many lanes are worked on."""
        return len(self._running)

    @property
    def busy(self) -> bool:
        """Whether there is more to do than this process takes now: others may have room for it."""
        return self._left or self._shares.free <= 0

    def keep(self, share: Share, *, asks: bool = False) -> bool:
        """Keeps a place for a lane that is about to be stored as leased by this process.

        False when a claim would give it none now, when the last claim left lanes that are due, while one is under way
        or waits for a place, and when this process takes no more. True must be followed by `adopt`, or by `give_back`
        if the lane was stored otherwise.
        """
        if not self._open or self._left or self._claiming:
            return False
        if not self._shares.admits(share, asyncio.get_running_loop().time(), asks=asks):
            return False
        self._kept += 1
        self._shares.take(share, asks=asks, alone=False)
        return True

    def adopt(self, item: T, since: float, *, asks: bool = False) -> None:
        """Works on a lane that was stored as leased, in the place that was kept for it with the same `asks`.

        `since`: the loop's time before the statement that leased it. If this process has ended its work meanwhile, the
        lease runs out.
        """
        if self._closing:
            self.give_back((item.lease.tenant_id, item.lease.share), asks=asks)
            return
        self._kept -= 1
        self._begin(item, Guard(item.lease, expires=since + self._ttl, renew=self._renew_one), asks)

    def give_back(self, share: Share, *, asks: bool = False) -> None:
        """The place that was kept is not needed."""
        self._kept -= 1
        self._shares.give_back(share, asks=asks, alone=False)
        self._freed.set()

    def bar(self, share: Share, seconds: float) -> None:
        """Takes no lane of that share for a while: other processes may know better what to do with it."""
        loop = asyncio.get_running_loop()
        self._shares.bar(share, loop.time() + seconds)
        loop.call_later(seconds, self._woken.set)

    def wake(self, after: float = 0.0) -> None:
        """Something is or will be due: claim then. Cheap; call it as often as you like."""
        if after > 0:
            asyncio.get_running_loop().call_later(after, self._woken.set)
        else:
            self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then lets running work finish for `drain`, and lets go of the rest."""
        helpers = [asyncio.create_task(self._watch(stop)), asyncio.create_task(self._renew_ageing())]
        self._woken.set()
        self._open = not stop.is_set()
        try:
            while not stop.is_set():
                await self._wait_for_reason(stop)
                if not stop.is_set():
                    await self._claim_round()
            await self._finish()
        finally:
            self._open = False
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._let_go()

    async def _finish(self) -> None:
        """Lets what runs, and what is being stored to run here, come to its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                while self._running or self._kept:
                    self._freed.clear()
                    await self._freed.wait()

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._open = False
        self._woken.set()
        self._freed.set()

    async def _wait_for_reason(self, stop: asyncio.Event) -> None:
        """Waits for a wake-up, the poll or the end, and for a free place."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll):
                await self._woken.wait()
        self._claiming = self._shares.free <= 0  # the next place is for what waits
        while self._shares.free <= 0 and not stop.is_set():
            self._freed.clear()
            await self._freed.wait()

    async def _claim_round(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        room = self._shares.room(started)
        self._woken.clear()  # before the claim: what comes due while it runs needs another
        try:
            found = await self._claim_for(room)
        except Exception as error:
            log.warning("lanes cannot be claimed", error=describe(error), again_in=self._poll)
            await asyncio.sleep(self._poll)
            self._woken.set()
            return
        for item in found.items:
            self._start(item, Guard(item.lease, expires=started + self._ttl, renew=self._renew_one))
        self._learn(found, hasty=room.at_once > 0)
        await asyncio.sleep(max(0.0, started + pause(self.running, self._gather) - loop.time()))

    async def _claim_for(self, room: Room) -> Found[T]:
        """All places in it may be taken when the claim is back, so that none of them is kept for anybody meanwhile."""
        self._claiming = True
        try:
            return await self._claim(room)
        finally:
            self._claiming = False

    def _learn(self, found: Found[T], *, hasty: bool) -> None:
        """When to claim next. What is left is for the next free place, or for at once when none is taken, or when the
        claim did not look at whose lanes it took: then there may be more for the places that are free."""
        self._shares.looked(found.walked or ("", ""), crowded=found.more)
        self._left, self._left_patient = found.more, found.more_patient
        left = found.more or found.more_patient
        if found.again or found.walked is not None or (left and (hasty or not self._running)):
            self._woken.set()

    def _start(self, item: T, guard: Guard) -> None:
        lease, asks = item.lease, self._asks(item)
        self._shares.take((lease.tenant_id, lease.share), asks=asks, alone=lease.alone)
        self._begin(item, guard, asks)

    def _begin(self, item: T, guard: Guard, asks: bool) -> None:
        """In a place that is taken."""
        lease = item.lease
        share = (lease.tenant_id, lease.share)

        def ended(task: "asyncio.Task[None]") -> None:
            self._shares.give_back(share, asks=asks, alone=lease.alone)
            self._ended(task)

        task = asyncio.create_task(self._run_work(item, guard))
        self._running[task] = guard
        task.add_done_callback(ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task, None)
        self._freed.set()
        if self._left or self._left_patient:
            self._woken.set()

    async def _run_work(self, item: T, guard: Guard) -> None:
        try:
            if await self._work(item, guard) is not False:
                self._woken.set()
        except LeaseLost:
            log.warning("lease lost", lane_id=str(guard.lease.lane_id), fence=guard.fence)
        except asyncio.CancelledError:
            if self._closing:
                raise
            if not guard.lost:
                await self._failed(guard)
            log.warning("work cancelled", lane_id=str(guard.lease.lane_id), lost=guard.lost)
        except Exception as error:
            log.error("work failed", lane_id=str(guard.lease.lane_id), exc_info=error)
            await self._failed(guard)

    async def _failed(self, guard: Guard) -> None:
        """Tries again after 1, 2, 4 s and so on up to a minute; the attempt counts."""
        lease = guard.lease
        delay = float(min(2 ** min(lease.attempts - 1, 6), 60))
        await self._try_release([replace(lease, attempts=lease.attempts + 1)], delay)
        self.wake(delay)

    async def _try_release(self, leases: Sequence[Lease], due_in: float) -> None:
        try:
            await self._release(leases, timedelta(seconds=due_in))
        except Exception as error:
            log.warning("leases cannot be let go, they will run out", lanes=len(leases), error=describe(error))

    async def _let_go(self) -> None:
        """Stops what still runs, and makes its lanes due for others at once."""
        self._closing = True
        tasks = dict(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = [guard.lease for task, guard in tasks.items() if task.cancelled() and not guard.lost]
        if left:
            log.warning("lanes let go unfinished", lanes=len(left))
            await self._try_release(left, 0.0)

    async def _renew_ageing(self) -> None:
        """Renews, in one call, all leases that have lived a third of their time.

        Short work never gets there.
        """
        while True:
            await asyncio.sleep(self._ttl / 6)
            ageing = {task: guard for task, guard in self._running.items() if self._is_ageing(guard)}
            if not ageing:
                continue
            try:
                await self._renew_guards(ageing.values(), self._ttl)
            except Exception as error:
                log.warning("leases cannot be renewed", lanes=len(ageing), error=describe(error))
            for task, guard in ageing.items():
                if guard.lost:
                    asyncio.get_running_loop().call_later(self._grace, task.cancel)

    def _is_ageing(self, guard: Guard) -> bool:
        return not guard.lost and guard.remaining() <= self._ttl * 2 / 3

    async def _renew_one(self, guard: Guard, seconds: float) -> None:
        await self._renew_guards([guard], max(self._ttl, seconds + self._grace))

    async def _renew_guards(self, guards: Collection[Guard], seconds: float) -> None:
        started = asyncio.get_running_loop().time()
        held = await self._renew([guard.lease.held for guard in guards], timedelta(seconds=seconds))
        for guard in guards:
            if guard.lease.lane_id in held:
                guard.extended(started + seconds)
            else:
                guard.lost = True
