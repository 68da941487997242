"""What the figures were measured on."""

import os
import platform
import statistics
import time
from pathlib import Path

import psutil

from tests.support.machine import work


def describe(folder: Path) -> dict[str, str | float]:
    """The machine, and the disk that holds `folder`."""
    disk = max(
        (part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    return {
        "cores": os.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "filesystem": disk.fstype if disk else "unknown",
        "flush_ms": round(flush_ms(folder), 2),
        "load_average": round(os.getloadavg()[0], 2),
    }


def flush_ms(folder: Path, times: int = 40) -> float:
    """The median time of writing 8 kB and having it flushed to disk: a commit's least."""
    path = folder / "flush-probe"
    block = b"\0" * 8192
    taken: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1000)
    path.unlink()
    return statistics.median(taken)


def work_ms() -> float:
    """CPU time of a fixed piece of work, in ms: it rises when neighbours on the same hardware slow it down."""
    taken: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        work()
        taken.append((time.process_time() - begun) * 1000)
    return statistics.median(taken)
