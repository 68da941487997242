"""One process that is kept running."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.probes import Health, Probe
from services.runtime.background import stopped

POLL_STARTING, POLL_RUNNING = 0.1, 5.0
UNHEALTHY_FOR = 30.0
BACKOFF_FIRST, BACKOFF_LONGEST = 0.2, 5.0
SETTLED_AFTER = 20.0
"""Seconds of running after which the next end counts as the first again."""


@dataclass(frozen=True)
class Spec:
    """How to run a process, check its health, and stop it. Times are in seconds."""

    name: str
    command: Callable[[], Sequence[str]]
    probe: Probe
    log: Path
    address: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Its whole environment."""
    folder: Path | None = None
    """Its working folder."""
    prepare: Callable[[], None] | None = None
    """Runs before each start, off the loop."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: float = 2.0
    stage: int = 0
    """Processes of a lower stage are stopped first."""
    longest_pause: float = BACKOFF_LONGEST
    """The longest time between an end and the next start."""
    needs: frozenset[str] = frozenset()
    """The processes that must be healthy before this one is blamed for being unhealthy."""


Report = Callable[[str, str, str], None]
"""Takes a process name, a level (`info`, `warning`, `error`) and a sentence."""


def backoff(ends: int) -> float:
    """Returns the seconds to wait after so many ends in a row: 0.2, 0.4, 0.8, ... 5."""
    return min(BACKOFF_FIRST * 2.0 ** (ends - 1), BACKOFF_LONGEST)


class Managed:
    """Runs a process by its spec, watches it, and restarts it when it ends or stays unhealthy."""

    def __init__(
        self, spec: Spec, *, report: Report, changed: Callable[[], None], blameless: Callable[[Spec, Health], bool]
    ):
        self.spec = spec
        self.healthy = False
        self.found = Health.SILENT
        """What the last probe found."""
        self.since = datetime.now(UTC)
        """The time at which it became healthy or unhealthy."""
        self.started_at: datetime | None = None
        self.last_end = ""
        """How it ended last, as a sentence without its subject."""
        self.restarts = 0
        self.ends_before_healthy = 0
        self._report = report
        self._changed = changed
        self._blameless = blameless
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.was_healthy = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Begins to keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {self.spec.name}")

    async def stop(self, within: float | None = None) -> None:
        """Asks it to end, kills it if it does not in time, and does not restart it."""
        self._stopping.set()
        await self._end(self.spec.stop_within if within is None else within)
        if self._task:
            await self._task

    def kill(self) -> None:
        """Kills it at once, with everything in its process group."""
        self._stopping.set()
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    async def _keep_running(self) -> None:
        ends = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            how = await self._run_once()
            if self._stopping.is_set():
                return
            ends = 1 if time.monotonic() - started > SETTLED_AFTER else ends + 1
            self.restarts += 1
            self.last_end = how
            self.ends_before_healthy += not self.was_healthy.is_set()
            pause = min(backoff(ends), self.spec.longest_pause)
            self._report(self.spec.name, "error", f"{how}; starting it again in {pause:.1f} s (see {self.spec.log})")
            self._set_healthy(False)
            await stopped(self._stopping, pause)

    async def _run_once(self) -> str:
        """Runs it until it ends; returns how it ended."""
        try:
            process = await self._spawn()
        except Exception as failure:  # the next try may work, and the sentence says what it was
            return f"could not be started: {failure}"
        if self._stopping.is_set():  # it was told to stop in between
            process.kill()
        watch = asyncio.create_task(self._watch(), name=f"watch {self.spec.name}")
        try:
            code = await process.wait()
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        self.found = Health.SILENT
        self._set_healthy(False)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.prepare is not None:
            await asyncio.to_thread(self.spec.prepare)
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(self.spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                cwd=self.spec.folder,
                start_new_session=True,  # Ctrl-C of a terminal is for the supervisor, which stops all in order
            )
        finally:
            os.close(log)
        self.started_at = datetime.now(UTC)
        self._changed()
        return self._process

    async def _watch(self) -> None:
        """Probes it, and ends it when it has been unhealthy for too long although it lacks nothing."""
        well_until = time.monotonic()
        while True:
            found = self.found = await self.spec.probe()
            self._set_healthy(found is Health.WELL)
            if self.healthy or self._blameless(self.spec, found):
                well_until = time.monotonic()
            elif time.monotonic() - well_until > UNHEALTHY_FOR:
                self._report(self.spec.name, "error", f"{found.value} for {UNHEALTHY_FOR:.0f} s; ending it")
                await self._end(self.spec.stop_within)
                return
            await self.spec.probe.rest(POLL_RUNNING if self.healthy else POLL_STARTING)

    async def _end(self, within: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(self.spec.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            self._report(self.spec.name, "warning", f"did not stop within {within:.1f} s; killing it")
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _set_healthy(self, healthy: bool) -> None:
        if healthy == self.healthy:
            return
        now = datetime.now(UTC)
        if healthy and self.was_healthy.is_set():
            away = (now - self.since).total_seconds()
            self._report(self.spec.name, "info", f"is back after {away:.1f} s")
        elif not healthy and self.pid is not None and not self._stopping.is_set():
            self._report(self.spec.name, "warning", self.found.value)
        self.healthy, self.since = healthy, now
        if healthy:
            self.was_healthy.set()
        self._changed()
