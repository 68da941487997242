"""Start the stack as `make run` does, in a folder of its own and on free ports."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.local.home import read_json
from deploy.local.ports import PORTS, variable
from tests.benchmarks.measure import Subject
from tests.benchmarks.processes import Watched

REPOSITORY = Path(__file__).resolve().parents[2]
START = 90.0
"""Seconds that the stack may take to be healthy, set-up of the databases included."""
SERVERS = frozenset({"postgres", "redis"})
APART = frozenset({"simulator", "console"})
"""Not in the way of a message; shown, and not counted."""


class StackFailed(RuntimeError):
    """The stack did not start. The message holds the end of what it said."""


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    home: Path
    supervisor: int
    processes: Sequence[Mapping[str, Any]]
    database_url: str
    seconds_to_start: float

    def address_of(self, name: str) -> str:
        """`host:port` of a process."""
        return next(str(process["address"]) for process in self.processes if process["name"] == name)

    def pid_of(self, name: str) -> int:
        return next(int(process["pid"]) for process in self.processes if process["name"] == name)

    @property
    def subject(self) -> Subject:
        """All its processes, the databases among them, and the load's own."""
        watched = [
            Watched(name, int(process["pid"]), tree=name in SERVERS, counted=name not in APART)
            for process in self.processes
            for name in [str(process["name"])]
        ]
        return Subject(
            [*watched, Watched("supervisor", self.supervisor), Watched("load", os.getpid(), counted=False)],
            self.database_url,
        )


@contextmanager
def scratch(*, keep: bool = False) -> Iterator[Path]:
    """A folder beside the stack's own state, so on the same disk; it is removed afterwards, unless it is to `keep`."""
    parent = REPOSITORY / ".parley"
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        if not any(parent.iterdir()):
            parent.rmdir()


@asynccontextmanager
async def running(home: Path, environment: Mapping[str, str]) -> AsyncIterator[Stack]:
    """A stack that is ready, with its state in `home`; stopped on leaving. Raises StackFailed."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("PARLEY_", "OTEL_", "OPENAI_"))}
    ports = {variable(name): "0" for name in PORTS}
    whole = {**ours, **ports, "PARLEY_HOME": str(home), **environment}
    begun = time.monotonic()
    with (home / "bench-stack.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy.local", "up", "--json"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=whole,
            cwd=REPOSITORY,
        )
    try:
        state = await _until_ready(process, home)
        postgres = next(one for one in state["processes"] if one["name"] == "postgres")
        url = f"postgresql://postgres@/parley?host={quote(postgres['address'])}"
        yield Stack(home, process.pid, state["processes"], url, time.monotonic() - begun)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, home: Path) -> dict[str, Any]:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.returncode is not None:
            raise StackFailed(f"the stack ended with {process.returncode}:\n{_end_of_log(home)}")
        state = read_json(home / "stack.json") or {}
        if state.get("state") == "ready":
            return state
        await asyncio.sleep(0.25)
    raise StackFailed(f"the stack was not ready within {START:.0f} s:\n{_end_of_log(home)}")


def _end_of_log(home: Path) -> str:
    return "\n".join((home / "bench-stack.log").read_text(errors="replace").splitlines()[-30:])
