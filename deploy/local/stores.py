"""Where PostgreSQL and Redis are, and the address that each service gets."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from deploy.local.home import Home
from deploy.local.roles import role_of
from deploy.local.server import EmbeddedServer, ServerFailed

WAIT_FOR = 15.0
"""Seconds that a server which is starting gets."""
TRY_FOR = 5.0
PAUSE = 0.5

_STARTING = (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)


@dataclass(frozen=True)
class Stores:
    """The addresses of PostgreSQL and Redis, and the embedded servers to start where no address is given."""

    postgres: EmbeddedPostgres | None
    redis: EmbeddedRedis | None
    database_url: str
    """The address for the owner of everything."""
    redis_url: str
    given: Mapping[str, str]

    @staticmethod
    def of(home: Home, given: Mapping[str, str]) -> "Stores":
        """Returns the stores of a home, for an environment."""
        database_url, redis_url = (given.get(f"PARLEY_{name}_URL", "").strip() for name in ("DATABASE", "REDIS"))
        postgres = None if database_url else EmbeddedPostgres(home.path / "postgres", log=home.log("postgres"))
        redis = None if redis_url else EmbeddedRedis(home.path / "redis", log=home.log("redis"))
        return Stores(
            postgres,
            redis,
            database_url if postgres is None else postgres.url,
            redis_url if redis is None else redis.url,
            given,
        )

    @property
    def servers(self) -> list[EmbeddedServer]:
        return [server for server in (self.postgres, self.redis) if server is not None]

    def database_of(self, service: str) -> str:
        """Returns the URL for a service: the one given for it or for all, or its role's in the embedded server."""
        given = self.given.get(database_variable(service), "").strip()
        if given:
            return given
        return self.database_url if self.postgres is None else self.postgres.url_of("parley", role_of(service))


def database_variable(service: str) -> str:
    """Returns the variable with one service's own URL of PostgreSQL."""
    return f"PARLEY_{service.upper()}_DATABASE_URL"


async def wait_for_given_postgres(url: str, tell: Callable[[str], None], *, wait_for: float = WAIT_FOR) -> None:
    """Wait until a PostgreSQL that was given by its URL lets us in: no service can do without it.

    Raises `ServerFailed`, which says why without the URL's password. `tell` gets the first reason to wait.
    """
    until = time.monotonic() + wait_for
    told = False
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=TRY_FOR)
            await connection.close(timeout=TRY_FOR)
            return
        except _STARTING as error:
            why = str(error) or type(error).__name__
            if time.monotonic() > until:
                hint = "start it, or leave the variable out to use the embedded one"
                raise ServerFailed(f"the PostgreSQL of PARLEY_DATABASE_URL does not answer: {why}; {hint}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise ServerFailed(f"the PostgreSQL of PARLEY_DATABASE_URL refuses us: {error}") from error
        if not told:
            tell(f"waiting for the PostgreSQL of PARLEY_DATABASE_URL: {why}")
            told = True
        await asyncio.sleep(PAUSE)
