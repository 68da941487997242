"""Where PostgreSQL and Redis are, and who gets which address."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from deploy.local.home import Home
from deploy.local.roles import role_of
from deploy.local.server import EmbeddedServer


@dataclass(frozen=True)
class Stores:
    """The embedded servers to start, and where PostgreSQL and Redis are: as given, else those servers."""

    postgres: EmbeddedPostgres | None
    redis: EmbeddedRedis | None
    database_url: str
    """As the owner of everything."""
    redis_url: str
    given: Mapping[str, str]

    @staticmethod
    def of(home: Home, given: Mapping[str, str]) -> "Stores":
        """Those of a home, for an environment."""
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
        """The URL that a service connects by: given for it, of its role in the embedded server, or given for all."""
        given = self.given.get(database_variable(service), "").strip()
        if given:
            return given
        return self.database_url if self.postgres is None else self.postgres.url_of("parley", role_of(service))


def database_variable(service: str) -> str:
    """The variable that gives one service's own way to a PostgreSQL that is given."""
    return f"PARLEY_{service.upper()}_DATABASE_URL"
