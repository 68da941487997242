"""The rules as this process knows them, and how far Redis can be trusted."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.limits.domain.periods import UnknownZone, zone
from services.limits.domain.rules import Rules
from services.limits.ports import Away, Counters, RuleSource
from services.runtime.background import nudged
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

_BREATH = 0.05
"""Seconds between two looks, however often it is poked."""


class RuleBook:
    """Keeps rules in memory. `poke` tells of changes; a look at their revision now and then stands behind it.

    It also keeps the epoch. Redis may miss what Postgres has counted after a commit that did not reach it, and after a
    restart that cost its last second. Either makes a new epoch, and with it every counter is loaded again.
    """

    def __init__(self, source: RuleSource, counters: Counters, *, poll: Callable[[], float] = lambda: 1.0) -> None:
        """`poll`: seconds until the next look, asked each time."""
        self.rules = Rules()
        self.epoch = 0
        self._source, self._counters = source, counters
        self._revision = 0
        self._poked = asyncio.Event()
        failing = "rules cannot be read; keeping the last ones"
        self.run = nudged("rules", self._look, self._poked, poll=poll, failing=failing)
        self._zones: dict[str, str] = {}
        """Time zones of tenants that are not stored yet."""
        self.on_change: Callable[[], None] = lambda: None

    def poke(self) -> None:
        """Makes it look soon."""
        self._poked.set()

    async def redis_missed(self) -> None:
        """Writes down that Postgres has counted something that Redis has not heard of.

        Do this before anybody is told of the count, because this process may end. Raises when Postgres is away.
        """
        self.epoch = max(self.epoch, await self._source.bump_epoch())
        self.on_change()

    def learn_zone(self, tenant_id: str, time_zone: str) -> None:
        """Begins the tenant's days in this time zone from now on, and stores it soon. Ignores an unknown zone."""
        if time_zone == self.rules.zone_of(tenant_id):
            return
        try:
            zone(time_zone)
        except UnknownZone as error:
            log.warning("a tenant's time zone is unknown", tenant_id=tenant_id, error=describe(error))
            return
        self.rules.set_zone(tenant_id, time_zone)
        self._zones[tenant_id] = time_zone
        self._poked.set()

    async def changed(self) -> None:
        """Takes over what this process has changed, and tells the others."""
        await self.refresh()
        self.on_change()

    async def refresh(self) -> None:
        """Looks now. Raises when Postgres is away."""
        await self._store_zones()
        state = await self._source.state()
        with suppress(Away):
            run_id = await self._counters.run_id()
            if run_id != state.redis_run_id:
                await self._source.meet_redis(run_id)
                state = await self._source.state()
        if state.revision != self._revision:
            self.rules = await self._source.rules()
            for tenant_id, time_zone in self._zones.items():  # learned meanwhile
                self.rules.set_zone(tenant_id, time_zone)
            self._revision = state.revision
        self.epoch = max(self.epoch, state.epoch)  # which may have grown since the state was read

    async def _store_zones(self) -> None:
        learned = dict(self._zones)
        if not learned:
            return
        await self._source.store_zones(learned)
        self._zones = {each: name for each, name in self._zones.items() if learned.get(each) != name}
        self.on_change()

    async def _look(self) -> None:
        try:
            await self.refresh()
        finally:
            await asyncio.sleep(_BREATH)
