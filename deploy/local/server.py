"""The common part of embedded servers. They keep their data in one folder, start after any crash, and end with their
parent."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local.sockets import socket_dir

CHILD_COMMAND = Path(__file__).with_name("child_command.py")
POLL = 0.02


class ServerFailed(RuntimeError):
    """A server did not start. The message says why, from the end of its log."""


def child_command(
    command: Sequence[object], *, on_orphaned: str = "SIGKILL", drop_root: bool = False, nice: int = 0
) -> list[str]:
    """Returns a command line that runs a command, which gets the signal `on_orphaned` when its parent dies.

    `drop_root` runs it as another user than root; `nice` lets others have the processor first.
    """
    options = ["--on-orphaned", on_orphaned, *(["--drop-root"] if drop_root else [])]
    options += ["--nice", str(nice)] if nice else []
    return [sys.executable, "-I", "-S", str(CHILD_COMMAND), *options, "--", *map(str, command)]


def package_folder(name: str) -> Path:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed: run make setup")
    return Path(spec.origin).parent


class EmbeddedServer(ABC):
    """A server with its data in one folder.

    `prepare`, `command` and `ready` are for a supervisor, which starts the process itself; `start` and the rest are for
    use without one. All times are in seconds.
    """

    name: str
    programs: frozenset[str]
    """The names of processes that may serve this data."""
    stop_signal: signal.Signals

    def __init__(self, data_dir: Path, *, log: Path | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def sockets(self) -> Path:
        self._sockets = self._sockets or socket_dir(self.data_dir)
        return self._sockets

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients."""

    @property
    def pid(self) -> int | None:
        """The server's process, or None if this object has not started it or it has ended."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @abstractmethod
    def prepare(self) -> None:
        """Creates the data if there is none, and removes what a crash has left. Not for use while it runs."""

    @abstractmethod
    def command(self) -> list[str]:
        """Returns the command that runs the server, which ends with its parent."""

    @abstractmethod
    def ready(self) -> bool:
        """Tells whether it takes connections now."""

    def start(self, within: float = 60.0) -> None:
        """Starts it, unless it runs, and waits until it takes connections. Raises `ServerFailed`."""
        if self.pid is not None:
            return
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + within
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} did not start; the end of {self.log}:\n{tail(self.log)}")
            time.sleep(POLL)

    def stop(self, within: float = 15.0) -> None:
        """Stops it cleanly, and kills it if that takes too long."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        self.forget_sockets()

    def restart(self) -> None:
        """Stops it cleanly and starts it again on the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Crashes it: kills the server and all its processes, with no chance to flush."""
        if self._process is not None:
            doomed = [self._process.pid] if self.pid is not None else []
            doomed += [process.pid for process in self.leftovers()]
            for pid in doomed:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def forget_sockets(self) -> None:
        """Removes the folder of sockets if it is empty. For use after the server has stopped."""
        with suppress(OSError):
            self.sockets.rmdir()
        self._sockets = None

    def leftovers(self) -> list[psutil.Process]:
        """Returns the server's processes that work in this data folder, whoever started them."""
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] in self.programs and process.cwd() == str(self.data_dir):
                    found.append(process)
        return found

    def end_leftovers(self, within: float = 20.0) -> None:
        """Ends servers that somebody else left running on this data, cleanly if possible."""
        for order in (self.stop_signal, signal.SIGKILL):
            left = self.leftovers()
            for process in left:
                with suppress(psutil.Error):  # it may have ended meanwhile
                    if process.ppid() not in {other.pid for other in left}:  # a server ends its own workers
                        process.send_signal(order)
            if not psutil.wait_procs(left, timeout=within)[1]:
                return
        raise ServerFailed(f"{self.name} on {self.data_dir} runs already and does not stop")


def tail(path: Path, lines: int = 15) -> str:
    """Returns the last lines of a log, or a note that there is none."""
    with suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"
