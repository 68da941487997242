"""What all tests share: the markers of their folders, real stores, keys and settings."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.support.stores import OldRedis, RedisCluster

if TYPE_CHECKING:
    from parley_client.tokens import TokenSource

# How long an example takes says more of the machine than of the code.
settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# As structlog comes, it draws a frame around every local variable of a traceback: a second or more of this process, in
# which no service in it answers.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

MARKED = {"unit", "contract", "integration", "e2e", "chaos"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        if folder in MARKED:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL a worker, which does not flush to disk; start your own to crash it."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One Redis a worker; start your own to crash it."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def old_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldRedis]:
    """One Redis 6.2 a worker, the oldest that is supported."""
    server = OldRedis(tmp_path_factory.mktemp("old-redis") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three masters a worker."""
    cluster = RedisCluster(tmp_path_factory.mktemp("redis-cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def postgres_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A new empty database for each test."""
    name = f"test_{uuid4().hex[:12]}"
    administrator = await asyncpg.connect(postgres_server.url_of("postgres"))
    try:
        await administrator.execute(f"CREATE DATABASE {name} STRATEGY file_copy")  # 15 ms, not 150
        yield postgres_server.url_of(name)
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await administrator.close()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The worker's Redis, or the one that `every_redis` names: keep to `redis_prefix` in it."""
    return str(request.getfixturevalue(getattr(request, "param", "redis_server")).url)


@pytest.fixture
def redis_prefix() -> str:
    """A prefix of keys and topics that no other test has."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def keys_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of all services, the operator's and the master key."""
    from services.runtime.keys import ensure_keys

    folder = tmp_path_factory.mktemp("keys")
    ensure_keys(folder)
    return folder


@pytest.fixture
def make_settings(
    tmp_path: Path, postgres_url: str, redis_url: str, redis_prefix: str, keys_dir: Path
) -> Callable[..., Any]:
    """Makes a service's settings on this test's stores: `make_settings(LimitsSettings, drain_seconds=1)`.

    Traces go nowhere. A service that runs in this process takes any free port.
    """

    def make(settings_type: type[Any], **overrides: object) -> Any:
        values: dict[str, object] = {
            "home": tmp_path,
            "keys_dir": keys_dir,
            "database_url": postgres_url,
            "redis_url": redis_url,
            "redis_prefix": redis_prefix,
            "telemetry_address": "",
            "egress_allow": "loopback",
        }
        return settings_type(**(values | overrides))

    return make


@pytest.fixture(scope="session")
def tokens_as(keys_dir: Path) -> Callable[..., "TokenSource"]:
    """Makes tokens of a service or of `operator` or `integration`: `tokens_as("edge", tenants=("acme",))`."""
    from services.runtime.keys import tokens_of

    def make(caller: str, tenants: Sequence[str] = ("*",)) -> "TokenSource":
        return tokens_of(keys_dir, caller, tenants=tuple(tenants))

    return make


@pytest.fixture(scope="session")
def operator_tokens(tokens_as: Callable[..., "TokenSource"]) -> "TokenSource":
    """The operator's tokens, for all tenants."""
    return tokens_as("operator")
