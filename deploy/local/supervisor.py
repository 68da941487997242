"""Keeps a set of processes running, and stops them in order."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from deploy.local.probes import Health
from deploy.local.process import Managed, Report, Spec

TRIES_TO_START = 3
"""So many ends before it was ever healthy, and the start is given up."""


class StartFailed(RuntimeError):
    """A process did not get healthy; `name` says which."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


class Supervisor:
    """Starts processes, starts those again that end, and stops all of them.

    `changed` is called whenever a process id or a state changes, `report` with what an operator should know.
    """

    def __init__(self, *, report: Report, changed: Callable[[], None] = lambda: None) -> None:
        self.processes: dict[str, Managed] = {}
        self._report = report
        self._changed = changed

    async def start(self, specs: Sequence[Spec], within: float) -> None:
        """Start these, all at once, and wait until each is healthy.

        Raises `StartFailed` after `within` seconds, or as soon as one has ended too often. Those that run go on.
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
        """Stop all, the lowest stage first, each stage within the longest time of its members."""
        order = sorted(self.processes.values(), key=lambda process: process.spec.stage)
        for _, stage in groupby(order, key=lambda process: process.spec.stage):
            await asyncio.gather(*(process.stop() for process in stage))

    def kill(self) -> None:
        """Kill all at once; `stop`, if it is under way, then ends soon."""
        for process in self.processes.values():
            process.kill()

    def _lacks(self, spec: Spec, found: Health) -> bool:
        """Whether it may be for want of something that it is not well, so that starting it again would not help.

        Of what is not ours, a given database say, we know nothing: a process that answers may be right to complain.
        """
        ours = [self.processes[name] for name in spec.needs if name in self.processes]
        if any(not process.healthy for process in ours):
            return True
        return found is Health.UNWELL and len(ours) < len(spec.needs)


def check_start(processes: Iterable[Managed], *, late: bool, within: float) -> None:
    """Raise `StartFailed` for the first process that will not start, or, when it is late, has not."""
    for process in processes:
        if process.was_healthy.is_set():
            continue
        if process.ends_before_healthy >= TRIES_TO_START:
            raise StartFailed(process.spec.name, f"ended {TRIES_TO_START} times while starting")
        if late:
            raise StartFailed(process.spec.name, f"was not healthy within {within:.0f} s")
