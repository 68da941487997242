"""Keeps a set of processes running, and stops them in order."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from deploy.local.probes import Health
from deploy.local.process import Managed, Report, Spec

TRIES_TO_START = 3
"""The start is given up after a process has ended so many times without having been healthy."""


class StartFailed(RuntimeError):
    """The process `name` did not become healthy."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


class Supervisor:
    """Starts processes, restarts those that end, and stops all of them.

    `changed` is called whenever a process id or a state changes, `report` with sentences for the operator.
    """

    def __init__(self, *, report: Report, changed: Callable[[], None] = lambda: None) -> None:
        self.processes: dict[str, Managed] = {}
        self._report = report
        self._changed = changed

    async def start(self, specs: Sequence[Spec], within: float) -> None:
        """Starts all of these at once and waits until each is healthy.

        Raises `StartFailed` after `within` seconds, or as soon as one has ended too often. The others keep running.
        """
        started = [Managed(spec, report=self._report, changed=self._changed, blameless=self._lacks) for spec in specs]
        self.processes |= {process.spec.name: process for process in started}
        for process in started:
            process.start()
        deadline = time.monotonic() + within
        waits = [asyncio.create_task(process.was_healthy.wait()) for process in started]
        try:
            while not all(wait.done() for wait in waits):
                await asyncio.wait([wait for wait in waits if not wait.done()], timeout=0.1)
                check_start(started, late=time.monotonic() > deadline, within=within)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stops all processes, the lowest stage first. A stage takes at most the longest time of its members."""
        order = sorted(self.processes.values(), key=lambda process: process.spec.stage)
        for _, stage in groupby(order, key=lambda process: process.spec.stage):
            await asyncio.gather(*(process.stop() for process in stage))

    def kill(self) -> None:
        """Kills all processes at once. A `stop` that is under way then ends soon."""
        for process in self.processes.values():
            process.kill()

    def _lacks(self, spec: Spec, found: Health) -> bool:
        """Tells whether a process may be unhealthy because it lacks something, so that a restart would not help.

        The health of what is not ours, such as a given database, is unknown. A process that answers may lack that.
        """
        ours = [self.processes[name] for name in spec.needs if name in self.processes]
        if any(not process.healthy for process in ours):
            return True
        return found is Health.UNWELL and len(ours) < len(spec.needs)


def check_start(processes: Iterable[Managed], *, late: bool, within: float) -> None:
    """Raises `StartFailed` for the first process that will not start, or, if it is late, has not started."""
    for process in processes:
        if process.was_healthy.is_set():
            continue
        if process.ends_before_healthy >= TRIES_TO_START:
            raise StartFailed(process.spec.name, f"ended {TRIES_TO_START} times while starting")
        if late:
            raise StartFailed(process.spec.name, f"was not healthy within {within:.0f} s")
