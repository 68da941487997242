"""CPU and memory of processes, from the operating system."""

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
    """At one moment: CPU used so far in seconds, and memory in MB."""

    cpu_seconds: float
    memory_mb: float


def read(watched: Iterable[Watched]) -> dict[str, Reading]:
    """Read each. Processes of the same name are added up; one that is gone is left out."""
    readings: dict[str, Reading] = {}
    for one in watched:
        try:
            reading = _read(one)
        except psutil.NoSuchProcess:
            continue
        known = readings.get(one.name, Reading(0.0, 0.0))
        readings[one.name] = Reading(known.cpu_seconds + reading.cpu_seconds, known.memory_mb + reading.memory_mb)
    return readings


def _read(one: Watched) -> Reading:
    root = psutil.Process(one.pid)
    times = root.cpu_times()
    if not one.tree:
        return Reading(times.user + times.system, peak_memory_mb(one.pid))
    # A child that has ended is in its parent's children_* from then on, so nothing is lost or counted twice.
    cpu = times.user + times.system + times.children_user + times.children_system
    memory = proportional_memory_mb(one.pid)
    for child in root.children(recursive=True):
        try:
            times = child.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            memory += proportional_memory_mb(child.pid)
        except psutil.NoSuchProcess:
            continue
    return Reading(cpu, memory)


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
