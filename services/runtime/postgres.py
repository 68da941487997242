"""PostgreSQL: the pool of a process."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

import asyncpg

from services.kernel.errors import storage_unavailable
from services.runtime.logs import describe, get_logger
from services.runtime.migrations import migrate

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PoolConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

log = get_logger(__name__)
T = TypeVar("T")

CONNECT_TIMEOUT = 5.0
COMMAND_TIMEOUT = 30.0
WARM = 3
"""Connections that a pool opens at once and keeps; further ones are opened under load."""
WAIT_AT_START = 30.0
"""Seconds that a starting process waits for PostgreSQL."""

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    # A connection that is used between the server's last words and the end of the stream.
    asyncpg.InternalClientError,
)
"""PostgreSQL cannot be reached, or takes no work. asyncpg raises OSError as well, TimeoutError among them."""
_NOT_UP = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,  # our role is still to be made; a wrong password is one of these
)
_RETRYABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


async def open_pool(url: str, *, name: str, schema: str, migrations: Path | None, size: int) -> Pool:
    """A pool of at most `size` connections on a migrated schema. Waits for a PostgreSQL that is starting.

    Connections that break are replaced as they are asked for, so a pool outlives a restart of PostgreSQL.
    """
    if not url:
        raise RuntimeError("PARLEY_DATABASE_URL is not set")
    if migrations is not None:
        connection = await _connect(url, name)
        try:
            await migrate(connection, schema, migrations)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT)
    return await asyncpg.create_pool(
        url,
        min_size=min(size, WARM),
        max_size=size,
        reset=_reset,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=_server_settings(name),
    )


async def open_read_pool(url: str, *, name: str, size: int, seconds: float) -> Pool:
    """A pool for reads that may be long; each is cancelled after so many seconds. It connects when it is first used."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        reset=_reset,
        timeout=CONNECT_TIMEOUT,
        command_timeout=seconds + CONNECT_TIMEOUT,
        server_settings=_server_settings(f"{name}-reads")
        | {"statement_timeout": f"{seconds * 1000:.0f}", "default_transaction_read_only": "on"},
    )


async def _connect(url: str, name: str) -> Connection:
    give_up = time.monotonic() + WAIT_AT_START
    pause = 0.05
    while True:
        try:
            return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT, server_settings=_server_settings(name))
        except _NOT_UP as error:
            if time.monotonic() > give_up or isinstance(error, asyncpg.InvalidPasswordError):
                raise
            log.warning("waiting for PostgreSQL", error=describe(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


def _server_settings(name: str) -> dict[str, str]:
    return {
        "application_name": f"parley-{name}",
        "TimeZone": "UTC",
        # Our statements are short; compiling one takes longer than running it.
        "jit": "off",
        # A process that hangs in a transaction must not hold its locks for ever.
        "idle_in_transaction_session_timeout": "60s",
    }


async def _reset(connection: Connection) -> None:
    """Leave a returned connection as it is, unless a transaction was left open.

    asyncpg would send a RESET after every use: a round trip that undoes what we never do.
    """
    if connection.is_in_transaction():
        await connection.reset()


@contextmanager
def told_away() -> Iterator[None]:
    """PostgreSQL away as use cases know it, who know no driver: STORAGE_UNAVAILABLE."""
    try:
        yield
    except (OSError, *AWAY) as error:
        raise storage_unavailable("Postgres") from error


async def retry_deadlocks(work: Callable[[], Awaitable[T]], *, attempts: int = 5) -> T:
    """Run a whole transaction, and again when PostgreSQL chose it as the victim (40P01, 40001)."""
    for attempt in range(1, attempts):
        try:
            return await work()
        except _RETRYABLE:
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - no secret
    return await work()
