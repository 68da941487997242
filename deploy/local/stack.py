"""`parley up`: the whole stack in the foreground."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from deploy.local.home import Home, read_json, write_json
from deploy.local.keyrings import hand_out
from deploy.local.metrics import Gathered
from deploy.local.ports import LOOPBACK, choose_within
from deploy.local.roles import make_roles
from deploy.local.server import ServerFailed
from deploy.local.services import Layout, metrics_of, ports_of, present, service_spec, store_specs
from deploy.local.stores import Stores, wait_for_given_postgres
from deploy.local.supervisor import StartFailed, Supervisor
from deploy.local.terminal import LogView, Terminal, last_words
from deploy.local.tokens import write_tokens
from deploy.local.welcome import welcome
from parley_client.errors import CallError
from parley_client.tokens import StaticToken
from services.runtime.background import periodic
from services.runtime.keys import OPERATOR, Keys, ServiceTokens, ensure_keys
from services.runtime.metrics.page import AUDIENCE, Page
from services.runtime.rotation import locked
from services.runtime.verifier import Verifier

START_WITHIN = 60.0
AFTER_A_CRASH = 8.0
"""Seconds that services may take to end after their supervisor was killed."""
TOKEN_RENEWAL = 900.0


class Stack:
    """Starts everything, records what runs, and stops it again."""

    def __init__(self, home: Home, environment: Mapping[str, str], terminal: Terminal) -> None:
        self.home = home
        self.terminal = terminal
        self.keys: Keys = ensure_keys(home.keys)
        with locked(home.keys):  # a rotation that is under way must not be undone in the copies
            hand_out(home.keys, home.keyrings)
        self.stores = Stores.of(home, environment)
        self.servers = self.stores.servers
        services = present()
        left = read_json(home.stack_file) or {}
        patience = 0.0 if left.get("state", "stopped") == "stopped" else AFTER_A_CRASH
        ports = choose_within(patience, environment, ports_of(services))
        self.layout = Layout(home, ports, self.stores, environment)
        self.specs = [service_spec(self.layout, service) for service in services]
        self.supervisor = Supervisor(report=terminal.report, changed=self.write_state)
        pages = {service.name: (LOOPBACK, ports[metrics_of(service.name)]) for service in services if service.measured}
        gathered = Gathered(pages, ServiceTokens(OPERATOR, self.keys))
        self.metrics = Page(gathered.text, Verifier(self.keys, AUDIENCE))
        self.state = "starting"
        self.started_at = datetime.now(UTC)
        self.demo: dict[str, Any] = {}

    async def start(self, *, demo: bool) -> None:
        """Starts everything. Raises `StartFailed`, `ServerFailed` or `CallError`."""
        if self.stores.postgres is None:
            await wait_for_given_postgres(
                self.stores.database_url, lambda why: self.terminal.report("parley", "warning", why)
            )
        self.renew_token()
        try:
            await self.metrics.listen(LOOPBACK, self.layout.ports["metrics"])
        except OSError as error:  # somebody took the port after it was chosen
            self.terminal.report("parley", "warning", f"metrics are not shown: {error}")
        # All at once: services import their code while the stores start, and wait for them.
        specs = [*store_specs(self.servers, self.layout.given), *self.specs]
        tasks = [asyncio.create_task(self.supervisor.start(specs, START_WITHIN))]
        if self.stores.postgres is not None:
            tasks.append(asyncio.create_task(make_roles(self.stores.database_url)))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if demo and {"dialog", "delivery"} <= self.layout.ports.keys():
            await self.seed()
        self.state = "ready"
        self.write_state()

    async def seed(self) -> None:
        """Makes the demo tenant, unless it is there."""
        from deploy.local.demo import seed

        simulator = self.layout.url("simulator") if "simulator" in self.layout.ports else ""
        self.demo = await seed(
            self.home,
            dialog=self.layout.address("dialog"),
            delivery=self.layout.address("delivery"),
            simulator_url=simulator,
            tokens=StaticToken(self.renew_token()),
        )

    async def stop(self) -> None:
        """Stops everything in order."""
        self.state = "stopping"
        self.write_state()
        self.metrics.close()
        await self.supervisor.stop()
        for server in self.servers:
            server.forget_sockets()
        for file in (self.home.token_file, self.home.metrics_token_file):
            file.unlink(missing_ok=True)
        self.state = "stopped"
        self.write_state()

    def renew_token(self) -> str:
        """Writes new tokens for the command line and for Prometheus; returns the first."""
        return write_tokens(self.home, self.keys)

    async def keep_token_fresh(self) -> None:
        """Renews tokens until it is cancelled."""

        async def renew() -> None:
            self.renew_token()

        await periodic("tokens", renew, every=TOKEN_RENEWAL)(asyncio.Event())

    def write_state(self) -> None:
        """Writes `stack.json`, which the command line reads."""
        write_json(self.home.stack_file, self.describe())

    def describe(self) -> dict[str, Any]:
        """Returns what runs, without secrets."""
        processes = self.supervisor.processes.values()
        whole = self.state != "ready" or all(process.healthy for process in processes)
        return {
            "state": self.state if whole else "degraded",
            "pid": os.getpid(),
            "home": str(self.home.path),
            "started_at": self.started_at.isoformat(),
            "tenant": "demo",
            "urls": {
                name: self.layout.url(name) for name in ("edge", "console", "simulator") if name in self.layout.ports
            }
            | {"metrics": f"{self.layout.url('metrics')}/metrics"},
            "addresses": {name: self.layout.address(name) for name in self.layout.ports},
            "processes": [
                {
                    "name": process.spec.name,
                    "address": process.spec.address,
                    "pid": process.pid,
                    "healthy": process.healthy,
                    "restarts": process.restarts,
                    "since": process.since.isoformat(),
                    "started_at": process.started_at.isoformat() if process.started_at else None,
                    "found": process.found.value,
                    "last_end": process.last_end,
                    "log": str(process.spec.log),
                }
                for process in processes
            ],
        }


async def up(home: Home, environment: Mapping[str, str], *, demo: bool, as_json: bool) -> int:
    """Runs the stack until a signal. Returns the exit code."""
    began = time.monotonic()
    terminal = Terminal()
    stack = Stack(home, environment, terminal)
    logs = {spec.name: spec.log for spec in stack.specs} | {server.name: server.log for server in stack.servers}
    stop = stop_on_signals(stack, terminal)
    helpers: list[asyncio.Task[None]] = []
    starting = asyncio.create_task(stack.start(demo=demo))
    stopped = asyncio.create_task(stop.wait())
    code = 0
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            # Only now: while all start at once, each complains that the others are not there.
            helpers += [asyncio.create_task(LogView(logs, terminal).run())]
            helpers += [asyncio.create_task(stack.keep_token_fresh())]
            if as_json:
                print(json.dumps(stack.describe(), ensure_ascii=False, indent=2), flush=True)
            else:
                welcome(stack.describe(), stack.demo, time.monotonic() - began)
            await stopped
    except (StartFailed, CallError) as failure:
        code = 1
        terminal.report("parley", "error", f"the stack did not start: {failure}")
        if isinstance(failure, StartFailed):
            log = home.log(failure.name)
            terminal.report(failure.name, "error", f"{last_words(log)} (see {log})")
    finally:
        for task in (starting, stopped, *helpers):
            task.cancel()
            with suppress(asyncio.CancelledError, StartFailed, ServerFailed, CallError):
                await task
        await stack.stop()
    return code


def stop_on_signals(stack: Stack, terminal: Terminal) -> asyncio.Event:
    """Returns an event that the first signal sets. The second one kills everything."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            terminal.report("parley", "warning", "killing everything")
            stack.supervisor.kill()
        else:
            terminal.report("parley", "", "stopping; press Ctrl-C again to kill everything")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def run(home: Home, *, demo: bool, as_json: bool) -> int:
    """Locks the home and runs the stack in it. Raises errors that `parley up` explains."""
    home.create()
    lock = home.lock()
    try:
        return asyncio.run(up(home, dict(os.environ), demo=demo, as_json=as_json))
    finally:
        os.close(lock)
        sys.stdout.flush()
