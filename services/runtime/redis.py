"""Redis: the client of a process."""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SOCKET_TIMEOUT = 1.0
"""Seconds that one command may take; callers that can do without Redis wait less."""
CONNECTIONS = 32
"""Connections of one process at most."""


class WaitingPool(ConnectionPool):
    """Commands beyond `max_connections` wait for a connection.

    redis-py's own pool refuses them, and the one of its that waits takes 50 microseconds more a command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:
        await self._free.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        self._in_use_connections.remove(connection)
        try:
            if connection.should_reconnect():  # type: ignore[no-untyped-call]
                await connection.disconnect()
        finally:
            self._available_connections.append(connection)
            self._free.release()


def make_redis(url: str, name: str) -> Redis:
    """A client that connects when it is first used. Commands fail fast while Redis is away; none is repeated.

    Repeating a command after a lost answer could count twice, so only callers who know better do that.
    """
    if not url:
        raise RuntimeError("PARLEY_REDIS_URL is not set")
    pool = WaitingPool.from_url(
        url,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name=f"parley-{name}",
        max_connections=CONNECTIONS,
    )
    return Redis.from_pool(pool)
