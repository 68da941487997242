"""Runs a service: builds it, serves it, and stops it in order."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from parley_client.channel import Connection, connect
from parley_client.tokens import TokenSource
from services.kernel.clock import Clock, SystemClock
from services.runtime import background, logs, process
from services.runtime.app import App
from services.runtime.background import Background
from services.runtime.keys import Keys, ServiceTokens
from services.runtime.logs import get_logger
from services.runtime.metrics.export import Measuring
from services.runtime.metrics.instruments import CHECKS, FAULTS, POOL, Metrics
from services.runtime.postgres import Pool, open_pool, open_read_pool
from services.runtime.read_pool import ReadPool
from services.runtime.redis import Client, make_redis
from services.runtime.server import Server
from services.runtime.settings import Settings
from services.runtime.tracing import provider

__all__ = ["App", "Background", "Build", "Running", "Runtime", "main", "running"]

S = TypeVar("S", bound=Settings)
log = get_logger(__name__)


@dataclass
class Runtime:
    """What wiring builds a service with. Everything that it opens is closed when the service stops."""

    name: str
    settings: Settings
    clock: Clock
    tokens: TokenSource
    keys: Keys
    metrics: Metrics = field(default_factory=Metrics)
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)

    async def postgres(self, schema: str, migrations: Path) -> Pool:
        """Opens a pool on the service's migrated schema. Waits for a PostgreSQL that is starting."""
        pool = await open_pool(
            self.settings.database_url,
            name=self.name,
            schema=schema,
            migrations=migrations,
            size=self.settings.postgres_pool_size,
        )
        self.on_close(lambda: close_pool(pool))
        self.metrics.watch(POOL, lambda: {"idle": pool.get_idle_size(), "used": pool.get_size() - pool.get_idle_size()})
        return pool

    async def reads(self) -> ReadPool:
        """Opens connections for the reads of operators."""
        pool = await open_read_pool(
            self.settings.database_url,
            name=self.name,
            size=self.settings.postgres_read_pool_size,
            seconds=self.settings.postgres_read_seconds,
        )
        self.on_close(lambda: close_pool(pool))
        return ReadPool(pool)

    def redis(self) -> Client:
        """Returns a client that connects when it is first used."""
        client = make_redis(self.settings.redis_url, self.name)
        self.on_close(client.aclose)
        return client

    def connect(self, audience: str) -> Connection:
        """Returns a connection to another service, at its address in the settings."""
        connection = connect(self.settings.address_of(audience), audience=audience, tokens=self.tokens)
        self.on_close(connection.close)
        return connection

    def on_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Calls `closer` when the service has stopped, in the reverse order of registration."""
        self._closing.push_async_callback(closer)

    async def close(self) -> None:
        """Closes everything that was opened."""
        await self._closing.aclose()


Build = Callable[[Runtime, S], Awaitable[App]]
"""A service's composition root."""


@dataclass
class Running:
    """A service that serves."""

    name: str
    address: str
    """`host:port` of its gRPC server; empty when it has none."""
    app: App
    runtime: Runtime
    failed: "asyncio.Future[None]"
    """Gets the exception of a background task that failed."""


@asynccontextmanager
async def running(
    name: str,
    settings: S,
    build: Build[S],
    *,
    port: int = 0,
    tokens: TokenSource | None = None,
    clock: Clock | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Running]:
    """Runs a service in this process until the block ends. `port` 0 takes any free one."""
    keys = Keys(settings.keys_dir)
    tokens = tokens or ServiceTokens(name, keys)
    runtime = Runtime(name, settings, clock or SystemClock(), tokens, keys, metrics or Metrics())
    stop = asyncio.Event()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.add_done_callback(lambda future: future.cancelled() or future.exception())
    server: Server | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        app = await build(runtime, settings)
        address = ""
        work = list(app.background)
        if app.servicers:
            server = Server(name, app, settings, keys)
            ports = await server.start([f"{settings.host}:{port}", *app.extra_ports])
            address = f"{settings.host}:{ports[0]}"
            work.append(server.health.watch)
            runtime.metrics.watch(CHECKS, server.health.passed)
        runtime.metrics.watch(FAULTS, lambda: background.faults(work))
        tasks = [background.start(each, stop, failed) for each in work]
        log.info("serving", address=address)
        yield Running(name, address, app, runtime, failed)
    finally:
        stop.set()
        await drain(server, tasks, settings.drain_seconds)
        await runtime.close()


async def drain(server: Server | None, tasks: "list[asyncio.Task[None]]", seconds: float) -> None:
    """Lets calls and background work finish, for so many seconds at most."""
    await asyncio.gather(background.finish(tasks, seconds), server.stop(seconds) if server else asyncio.sleep(0))


async def close_pool(pool: Pool) -> None:
    """Closes a pool. If somebody does not give a connection back, breaks all of them."""
    try:
        await asyncio.wait_for(pool.close(), 5.0)
    except TimeoutError:
        pool.terminate()


def main(name: str, settings_type: type[S], build: Build[S]) -> None:
    """Runs a service as this process until SIGTERM or SIGINT, then drains it. Exits with 1 if it fails."""
    import uvloop

    settings = settings_type()
    logs.configure(name, settings.log_level)
    process.die_with_parent()
    sys.exit(uvloop.run(serve(name, settings, build)))


async def serve(name: str, settings: S, build: Build[S]) -> int:
    """Runs a service until it is told to stop or fails; returns the exit code."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    tracing = None
    try:
        keys = Keys(settings.keys_dir)
        tokens = ServiceTokens(name, keys)
        tracing = provider.start(name, settings, tokens)
        async with (
            Measuring(name, settings, keys) as metrics,
            running(name, settings, build, port=settings.port_of(name), tokens=tokens, metrics=metrics) as service,
        ):
            spare_the_collector()
            service.failed.add_done_callback(lambda _: told.set())
            await told.wait()
            log.info("stopping")
            failed = service.failed.done()
    except Exception as error:
        log.critical("cannot serve", exc_info=error)
        return 1
    finally:
        if tracing is not None:
            await tracing.close()
    log.info("stopped")
    return int(failed)


def spare_the_collector() -> None:
    """Takes everything that is loaded by now out of future garbage collections, and makes these rarer.

    Most of what a message allocates is freed by reference counts, so little is left for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
