"""Finds the local stack and talks to it."""

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from parley_cli.faults import Fault
from parley_client.channel import Connection, connect
from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.dialog import BotClient, DialogClient, OrderClient, TenantClient
from parley_client.limits import LimitsClient
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import StaticToken

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
"""The repository, unless Parley was installed from a wheel."""


def home() -> Path:
    """Returns the folder of the stack's state, as `deploy.local.home.Home` does."""
    given = os.environ.get("PARLEY_HOME", "").strip()
    usual = (ROOT if (ROOT / "pyproject.toml").is_file() else Path.home()) / ".parley"
    return Path(given).expanduser().resolve() if given else usual


def is_running() -> bool:
    """Whether a stack holds the lock of this folder."""
    try:
        descriptor = os.open(home() / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def stack() -> dict[str, Any]:
    """Returns what the running stack says about itself. Raises `Fault` if none runs."""
    if not is_running():
        raise Fault(
            f"no stack runs in {home()}", "Start one with `make run`, or name the folder of another one in PARLEY_HOME."
        )
    try:
        described: dict[str, Any] = json.loads((home() / "stack.json").read_text())
    except (OSError, ValueError) as error:
        raise Fault(f"the stack in {home()} is still starting", "Try again in a moment.") from error
    return described


class Session:
    """Clients for the local stack's services, with the operator's rights. Connects on first use."""

    def __init__(self, tenant: str, described: dict[str, Any], token: str) -> None:
        self.tenant = tenant
        self.stack = described
        self._tokens = StaticToken(token)
        self._closing = AsyncExitStack()
        self._connections: dict[str, Connection] = {}

    async def close(self) -> None:
        await self._closing.aclose()

    @cached_property
    def dialog(self) -> DialogClient:
        return DialogClient(self._to("dialog"))

    @cached_property
    def bots(self) -> BotClient:
        return BotClient(self._to("dialog"))

    @cached_property
    def orders(self) -> OrderClient:
        return OrderClient(self._to("dialog"))

    @cached_property
    def tenants(self) -> TenantClient:
        return TenantClient(self._to("dialog"))

    @cached_property
    def delivery(self) -> DeliveryClient:
        return DeliveryClient(self._to("delivery"))

    @cached_property
    def channels(self) -> ChannelClient:
        return ChannelClient(self._to("delivery"))

    @cached_property
    def limits(self) -> LimitsClient:
        return LimitsClient(self._to("limits"))

    @cached_property
    def telemetry(self) -> TelemetryClient:
        return TelemetryClient(self._to("telemetry"))

    def _to(self, service: str) -> Connection:
        if service not in self._connections:
            address = self.stack.get("addresses", {}).get(service)
            if not address:
                raise Fault(f"the stack has no service {service!r}")
            connection = connect(address, audience=service, tokens=self._tokens)
            self._closing.push_async_callback(connection.close)
            self._connections[service] = connection
        return self._connections[service]


@contextmanager
def opened(tenant: str) -> Iterator[tuple[asyncio.Runner, Session]]:
    """Opens a session with the local stack and an event loop to use it on. Raises `Fault` if no stack runs."""
    described = stack()
    try:
        token = (home() / "operator.token").read_text().strip()
    except OSError as error:
        raise Fault(
            f"the operator's token cannot be read: {error}", "Run this as the user who runs the stack."
        ) from error
    with asyncio.Runner() as runner:
        session = Session(tenant, described, token)
        try:
            yield runner, session
        finally:
            runner.run(session.close())


def perform(tenant: str, work: Callable[[Session], Awaitable[T]]) -> T:
    """Runs calls on the local stack and returns their result. Raises `Fault` or `CallError`."""

    async def run(session: Session) -> T:
        return await work(session)

    with opened(tenant) as (runner, session):
        return runner.run(run(session))
