"""Probes of health. Each answers in a bounded time, and a server that is away raises nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Health(Enum):
    """What a probe found."""

    WELL = "well"
    UNWELL = "answers, and says that it cannot serve"
    SILENT = "does not answer"


class Probe(Protocol):
    """Looks at a server."""

    async def __call__(self) -> Health:
        """Returns what it finds now."""

    async def rest(self, seconds: float) -> None:
        """Waits until the next look: for so many seconds, or until the server itself reports a change."""


@dataclass(frozen=True)
class Polled:
    """A probe that has to ask."""

    ask: Callable[[], Awaitable[Health]]

    async def __call__(self) -> Health:
        return await self.ask()

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


WITHIN = 2.0
"""Seconds that a probe may take."""


# A process that is stopped or hangs answers no ping, and its stream ends within 15 s. That needs pings without a bound
# of their number, and the timeout of all pings set as well: it would be a minute, whatever that of keepalive is.
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcHealth:
    """Follows `grpc.health.v1` for the server as a whole, and returns what it heard last.

    The server sends each change by itself, so nobody is woken while nothing changes.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stub: Any = None  # the package has no types; made at first use, on the loop that uses it
        self._following: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._last = Health.SILENT

    async def rest(self, seconds: float) -> None:
        self._changed.clear()
        await heard_within(self._changed, seconds)

    async def __call__(self) -> Health:
        """Returns what the server said last; waits for its first answer, but not for long."""
        if self._following is None or self._following.done():
            self._heard.clear()
            self._following = asyncio.create_task(self._follow(), name=f"health of {self._address}")
        await heard_within(self._heard, WITHIN)
        return self._last

    async def _follow(self) -> None:
        """Follows until the stream ends."""
        if self._stub is None:
            self._stub = health_pb2_grpc.HealthStub(grpc.aio.insecure_channel(self._address, OPTIONS))
        try:
            async for answer in self._stub.Watch(health_pb2.HealthCheckRequest()):
                well = answer.status == health_pb2.HealthCheckResponse.SERVING
                self._tell(Health.WELL if well else Health.UNWELL)
        except grpc.aio.AioRpcError:
            pass  # the server is away, which is reported below
        self._tell(Health.SILENT)

    def _tell(self, health: Health) -> None:
        if health is not self._last:
            self._changed.set()
        self._last = health
        self._heard.set()


async def heard_within(event: asyncio.Event, seconds: float) -> None:
    """Waits for an event, for at most so long. `wait_for` of Python 3.11 would lose a cancellation that comes together
    with the event, as it does when a process ends.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def grpc_health(address: str) -> Probe:
    """Follows the health that a gRPC server tells of itself."""
    return GrpcHealth(address)


def http_ok(host: str, port: int, path: str) -> Probe:
    """Gets a page, whose status must be 200."""

    async def ask() -> Health:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            return Health.WELL if b" 200 " in await reader.readline() else Health.UNWELL
        finally:
            writer.close()

    async def probe() -> Health:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(WITHIN):
                return await ask()
        return Health.SILENT

    return Polled(probe)


def calling(ready: Callable[[], bool]) -> Probe:
    """Calls a function that takes a moment at most."""

    async def probe() -> Health:
        return Health.WELL if await asyncio.to_thread(ready) else Health.SILENT

    return Polled(probe)
