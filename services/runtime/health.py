"""Reports whether a service can do its work (`grpc.health.v1`)."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.runtime.background import periodic
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

Check = Callable[[], Awaitable[object]]
"""Raises if the service lacks what it needs."""

CHECK_TIMEOUT = 3.0
_SERVING, _NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Health:
    """The health of a server as a whole ("") and of each of its services, which needs every check to pass, and of each
    check under its own name. Checks of what the service can do without are reported, and nothing more."""

    def __init__(
        self, services: Sequence[str], checks: Mapping[str, Check], every: float, spared: Collection[str] = ()
    ) -> None:
        """`every` is in seconds. `spared` are the names of checks that the service can do without."""
        self.servicer = health_aio.HealthServicer()
        self._services = ("", *services)
        self._spared = frozenset(spared)
        self._checks = checks
        self.watch = periodic("health", self.look, every=every)
        """Runs the checks again and again."""
        self._failing: dict[str, str] = {}

    async def look(self) -> None:
        """Runs all checks now."""
        results = await asyncio.gather(*(self._run(check) for check in self._checks.values()))
        failing = {name: result for name, result in zip(self._checks, results, strict=True) if result}
        for name in failing.keys() - self._failing.keys():
            log.warning("not serving", check=name, error=failing[name])
        for name in self._failing.keys() - failing.keys():
            log.info("serving again", check=name)
        self._failing = failing
        for name in self._checks:
            await self.servicer.set(name, _NOT_SERVING if name in failing else _SERVING)
        for service in self._services:
            await self.servicer.set(service, _NOT_SERVING if failing.keys() - self._spared else _SERVING)

    def passed(self) -> dict[str, float]:
        """1 for each check that passed last time, 0 for each that failed."""
        return {name: float(name not in self._failing) for name in self._checks}

    async def stop_serving(self) -> None:
        """Reports from now on that nothing is served."""
        await self.servicer.enter_graceful_shutdown()

    @staticmethod
    async def _run(check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await check()
        except Exception as error:
            return describe(error)
        return ""
