"""One run: a load, and what it cost."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.benchmarks import machine, processes
from tests.benchmarks.crowd import Crowd, Tally
from tests.benchmarks.database import Counters, counters
from tests.benchmarks.processes import Watched

SETTLE = 60.0
"""Seconds that a run waits for the last answers before it calls them lost."""


@dataclass(frozen=True)
class Cost:
    """What a process used in the measured window."""

    cpu_ms_per_message: float
    cores: float
    memory_mb: float
    counted: bool
    wakeups_per_message: float
    """Of main threads."""
    thread_wakeups_per_message: float
    """Of all threads."""


@dataclass
class Run:
    """A run's figures. Times in ms; rates in messages a second; memory in MB."""

    name: str
    seconds: float = 0.0
    messages: int = 0
    offered_rate: float | None = None
    tally: Tally = field(default_factory=Tally)
    costs: dict[str, Cost] = field(default_factory=dict)
    database: Counters = field(default_factory=Counters)
    foreign_cores: float = 0.0
    """Cores that other processes of the machine kept busy meanwhile: noise."""
    stolen_cores: float = 0.0
    """Cores that the machine's host kept for others."""
    work_ms: float = 0.0
    """CPU time of a fixed piece of work, before and after the run: how fast the machine was then."""
    backlog: int = 0
    """Messages that waited for their answer when the window closed."""
    settled: bool = True
    problems: list[str] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)
    """Counts a message of things that only some subjects have (RPCs by method, spans)."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds if self.seconds else 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU of a message over everything that counts."""
        return sum(cost.cpu_ms_per_message for cost in self.costs.values() if cost.counted)

    @property
    def wakeups(self) -> float:
        """How often a message wakes main threads, over everything that counts."""
        return sum(cost.wakeups_per_message for cost in self.costs.values() if cost.counted)

    @property
    def thread_wakeups(self) -> float:
        """How often a message wakes threads, over everything that counts."""
        return sum(cost.thread_wakeups_per_message for cost in self.costs.values() if cost.counted)

    def per_message(self, count: float) -> float:
        return count / self.messages if self.messages else 0.0


@dataclass(frozen=True)
class Subject:
    """What is measured: its processes and its database."""

    watched: Sequence[Watched]
    database_url: str


def quantile(values: Sequence[float], q: float) -> float:
    """The value that a share `q` of the values does not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)]


async def measure(
    name: str,
    subject: Subject,
    crowd: Crowd,
    load: Callable[[asyncio.Event], Awaitable[None]],
    *,
    seconds: float,
    warmup: float = 2.0,
    limit: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Run:
    """Run `load` for `warmup` + `seconds`, measure the latter, and wait for all answers.

    With a `limit`, the load stops early when more people wait than that: it is more than the subject can do.
    """
    run = Run(name, tally=crowd.tally, work_ms=machine.work_ms())
    stop = asyncio.Event()
    task = asyncio.ensure_future(load(stop))
    try:
        await asyncio.sleep(warmup)
        before, database = processes.read(subject.watched), await counters(subject.database_url)
        busy, answered = processes.machine_busy_seconds(), crowd.tally.answered
        stolen = processes.stolen_seconds()
        begun = time.perf_counter()
        crowd.measuring = True
        while (passed := time.perf_counter() - begun) < seconds and not task.done():
            progress(passed / seconds)
            if limit and crowd.waiting > limit:
                run.problems.append(f"stopped after {passed:.0f} s: {crowd.waiting} people waited for an answer")
                break
            await asyncio.sleep(min(0.25, seconds - passed))
        crowd.measuring = False
        run.seconds = time.perf_counter() - begun
        run.messages, run.backlog = crowd.tally.answered - answered, crowd.waiting
        after = processes.read(subject.watched)
        busy = processes.machine_busy_seconds() - busy
        run.stolen_cores = (processes.stolen_seconds() - stolen) / run.seconds
        run.database = await counters(subject.database_url) - database
        _spread(run, subject.watched, before, after, busy)
    finally:
        stop.set()
        await task
    run.settled = await crowd.settle(SETTLE)
    run.work_ms = (run.work_ms + machine.work_ms()) / 2
    return run


def _spread(
    run: Run,
    watched: Sequence[Watched],
    before: dict[str, processes.Reading],
    after: dict[str, processes.Reading],
    busy: float,
) -> None:
    counted = {one.name: one.counted for one in watched}
    for name, reading in after.items():
        if name not in before:
            run.problems.append(f"{name} was started again during the run")
            continue
        cpu = reading.cpu_seconds - before[name].cpu_seconds
        if cpu < 0:
            run.problems.append(f"{name} was started again during the run")
        busy -= cpu
        run.costs[name] = Cost(
            run.per_message(cpu * 1000),
            cpu / run.seconds,
            reading.memory_mb,
            counted[name],
            run.per_message(reading.wakeups - before[name].wakeups),
            run.per_message(reading.thread_wakeups - before[name].thread_wakeups),
        )
    run.foreign_cores = max(0.0, busy / run.seconds)
