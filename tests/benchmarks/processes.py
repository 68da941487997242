"""CPU, memory and wake-ups of processes, from the operating system."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Watched:
    """A process to watch; `tree` counts its children as well (a PostgreSQL server with its backends)."""

    name: str
    pid: int
    tree: bool = False
    counted: bool = True
    """Part of the mesh's cost. The simulator and the load itself are shown, and not counted."""


@dataclass(frozen=True)
class Reading:
    """At one moment: CPU used so far in seconds, memory in MB, and how often it has been woken so far."""

    cpu_seconds: float = 0.0
    memory_mb: float = 0.0
    wakeups: int = 0
    """Of main threads: how often one had nothing to do, waited, and was woken. An event loop under full load is not."""
    thread_wakeups: int = 0
    """Of all threads, the main ones among them."""

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(
            self.cpu_seconds + other.cpu_seconds,
            self.memory_mb + other.memory_mb,
            self.wakeups + other.wakeups,
            self.thread_wakeups + other.thread_wakeups,
        )


def read(watched: Iterable[Watched]) -> dict[str, Reading]:
    """Read each. Processes of the same name are added up; one that is gone is left out."""
    readings: dict[str, Reading] = {}
    for one in watched:
        try:
            reading = _read(one)
        except psutil.NoSuchProcess:
            continue
        readings[one.name] = readings.get(one.name, Reading()) + reading
    return readings


def _read(one: Watched) -> Reading:
    root = psutil.Process(one.pid)
    times = root.cpu_times()
    if not one.tree:
        return Reading(times.user + times.system, peak_memory_mb(one.pid), *_wakeups(one.pid))
    # A child that has ended is in its parent's children_* from then on, so nothing is lost or counted twice.
    cpu = times.user + times.system + times.children_user + times.children_system
    reading = Reading(cpu, proportional_memory_mb(one.pid), *_wakeups(one.pid))
    for child in root.children(recursive=True):
        try:
            times = child.cpu_times()
            cpu = times.user + times.system + times.children_user + times.children_system
            reading += Reading(cpu, proportional_memory_mb(child.pid), *_wakeups(child.pid))
        except psutil.NoSuchProcess:
            continue
    return reading


def _wakeups(pid: int) -> tuple[int, int]:
    """Of the main thread and of all threads, by their voluntary context switches; 0 where the system does not say."""
    counts = {}
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            for line in (thread / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    counts[thread.name] = int(line.split()[1])
        except OSError:  # it has ended
            continue
    return counts.get(str(pid), 0), sum(counts.values())


def peak_memory_mb(pid: int) -> float:
    """The most that was resident so far; what is resident now where the system does not say."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def proportional_memory_mb(pid: int) -> float:
    """Memory now, shared pages divided among those who share them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def machine_busy_seconds() -> float:
    """CPU time that all processes of this machine have used."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def stolen_seconds() -> float:
    """CPU time that this machine wanted, and its host gave to others."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
