"""A whole stack for tests: started as `make run` does it, in a folder of its own, on free ports."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from deploy.local.ports import PORTS, hold, variable
from deploy.local.server import child_command
from parley_client.channel import Connection, connect
from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.dialog import BotClient, DialogClient, OrderClient, TenantClient
from parley_client.limits import LimitsClient
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import TokenSource

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
"""Longer than the stack itself allows its start, so that what it says of a failure is heard."""
STOP_SECONDS = 60.0
PORT_RANGE = range(10_000, 32_768)
"""Below the ports that Linux gives to whoever asks for any: nobody gets one of these while its service is not up."""


class _TokenFile:
    """The operator's token, as the command line reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self, audience: str) -> str:
        return self._path.read_text().strip()


@dataclass
class Mesh:
    """A running stack, and clients of it."""

    home: Path
    environment: Mapping[str, str]
    http: aiohttp.ClientSession
    process: "asyncio.subprocess.Process | None" = None
    _connections: dict[str, Connection] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any]:
        """What `stack.json` says now."""
        state: dict[str, Any] = json.loads((self.home / "stack.json").read_text())
        return state

    @property
    def demo(self) -> dict[str, Any]:
        """Secrets of the demo tenant."""
        demo: dict[str, Any] = json.loads((self.home / "demo.json").read_text())
        return demo

    @property
    def edge(self) -> str:
        return str(self.state["urls"]["edge"])

    @property
    def simulator(self) -> str:
        return str(self.state["urls"]["simulator"])

    @property
    def tokens(self) -> TokenSource:
        return _TokenFile(self.home / "operator.token")

    def connection(self, audience: str) -> Connection:
        if audience not in self._connections:
            address = self.state["addresses"][audience]
            self._connections[audience] = connect(address, audience=audience, tokens=self.tokens)
        return self._connections[audience]

    @property
    def dialog(self) -> DialogClient:
        return DialogClient(self.connection("dialog"))

    @property
    def bots(self) -> BotClient:
        return BotClient(self.connection("dialog"))

    @property
    def orders(self) -> OrderClient:
        return OrderClient(self.connection("dialog"))

    @property
    def tenants(self) -> TenantClient:
        return TenantClient(self.connection("dialog"))

    @property
    def delivery(self) -> DeliveryClient:
        return DeliveryClient(self.connection("delivery"))

    @property
    def channels(self) -> ChannelClient:
        return ChannelClient(self.connection("delivery"))

    @property
    def limits(self) -> LimitsClient:
        return LimitsClient(self.connection("limits"))

    @property
    def telemetry(self) -> TelemetryClient:
        return TelemetryClient(self.connection("telemetry"))

    def process_of(self, name: str) -> dict[str, Any]:
        return next(one for one in self.state["processes"] if one["name"] == name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal."""
        os.kill(self.process_of(name)["pid"], number)

    async def healthy(self, seconds: float = 120.0) -> None:
        """Wait until every process is well."""
        await until(lambda: _async(all(one["healthy"] for one in self.state["processes"])), seconds, "healthy stack")

    async def parley(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run the command line: exit code, standard output, standard error."""
        command = [str(Path(sys.executable).with_name("parley")), *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environment),
            cwd=ROOT,
        )
        try:
            out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode or 0, out.decode(), err.decode()

    async def parley_json(self, *arguments: str, stdin: str = "") -> Any:
        """The document that a command prints with `--json`; an AssertionError when it fails."""
        code, out, err = await self.parley(*arguments, "--json", stdin=stdin)
        assert code == 0, f"parley {' '.join(arguments)}: {err or out}"
        return json.loads(out)

    async def start(self) -> None:
        """Start it (again)."""
        with (self.home / "test-stack.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *child_command([sys.executable, "-m", "deploy.local", "up", "--json"], on_orphaned="SIGINT"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                cwd=ROOT,
            )
        process = self.process

        async def ready() -> bool:
            if process.returncode is not None:
                raise AssertionError(f"the stack ended with {process.returncode}:\n{self.log_end()}")
            try:
                state = self.state
            except (OSError, ValueError):
                return False
            return bool(state["state"] == "ready" and state["pid"] == process.pid)

        await until(ready, START_SECONDS, "ready stack", self.log_end)

    async def stop(self) -> None:
        """Ctrl-C, and wait for the end."""
        for connection in self._connections.values():
            await connection.close()
        self._connections.clear()
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
            except TimeoutError:
                self.process.kill()  # its processes end with it
                await self.process.wait()
                raise AssertionError(f"the stack did not stop within {STOP_SECONDS} s:\n{self.log_end()}") from None

    def log_end(self) -> str:
        """The end of what the stack said."""
        logs = [self.home / "test-stack.log", *sorted((self.home / "logs").glob("*.log"))]
        parts = []
        for path in logs:
            lines = path.read_text(errors="replace").splitlines()[-12:] if path.exists() else []
            parts.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)


@asynccontextmanager
async def mesh(home: Path, **environment: str) -> AsyncIterator[Mesh]:
    """A stack that is ready; stopped at the end."""
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("PARLEY_", "OTEL_", "OPENAI_"))}
    async with aiohttp.ClientSession() as http:
        stack = Mesh(home, {**ours, **free_ports(), "PARLEY_HOME": str(home), **environment}, http)
        try:
            await stack.start()
            yield stack
        finally:
            await stack.stop()


def free_ports() -> dict[str, str]:
    """A port that is free now for each that a stack takes, as its environment says it."""
    with ExitStack() as held:
        free = (port for port in random.sample(PORT_RANGE, len(PORT_RANGE)) if hold(held, port) is not None)
        return {variable(name): str(next(free)) for name in PORTS}


async def until(
    condition: Callable[[], Awaitable[object]],
    seconds: float = 90.0,
    what: str = "condition",
    explain: Callable[[], str] = str,
) -> None:
    """Wait until a condition holds; an AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {seconds} s\n{explain()}")
        await asyncio.sleep(0.05)


async def _async(value: object) -> object:
    return value
