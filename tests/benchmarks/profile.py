"""Where a process spends its time, by py-spy (not a dependency: `pip install py-spy` wherever you like).

    python -m tests.benchmarks --only closed --profile dialog,edge

Samples the process under load and prints the functions with the most time of their own, and those with the most
including what they call. With `--native` C code is seen as well, at a higher cost.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class NoProfiler(RuntimeError):
    """py-spy is not there."""


@dataclass(frozen=True)
class Profile:
    """Samples by function; `own` are those in the function itself, `total` with all it called."""

    samples: int
    own: Counter[str]
    total: Counter[str]

    def top(self, counter: Counter[str], count: int) -> list[tuple[str, float]]:
        """The functions with the most samples, with their share."""
        return [(name, hits / self.samples) for name, hits in counter.most_common(count)] if self.samples else []


def find_profiler() -> str:
    """Path of py-spy: `PY_SPY` in the environment, or on the path. Raises NoProfiler."""
    found = os.environ.get("PY_SPY") or shutil.which("py-spy")
    if not found:
        raise NoProfiler("py-spy was not found: install it anywhere and name it with PY_SPY=/path/to/py-spy")
    return found


async def record(name: str, pid: int, seconds: float, folder: Path, *, native: bool = False) -> Profile:
    """Sample a process for so many seconds; the raw stacks stay in `folder` as `<name>.folded`."""
    output = folder / f"{name}.folded"
    options = ["--rate", "200", "--format", "raw", "--duration", str(max(1, int(seconds)))]
    options += ["--native"] if native else ["--nonblocking"]
    process = await asyncio.create_subprocess_exec(
        *(find_profiler(), "record", "--pid", str(pid), *options, "--output", str(output)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise NoProfiler(f"py-spy failed for {name}: {said.decode(errors='replace').strip()}")
    return summarize(output.read_text().splitlines())


def summarize(folded: Iterable[str]) -> Profile:
    """Count samples of folded stacks (`outer;inner;innermost 12`). Threads that only wait are not sampled."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in folded:
        stack, _, hits = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        samples += int(hits)
        own[frames[-1]] += int(hits)
        for frame in set(frames):
            total[frame] += int(hits)
    return Profile(samples, own, total)


def _short(frame: str) -> str:
    """`function (long/path/site-packages/package/module.py:12)` as `function package/module.py`."""
    function, _, place = frame.partition(" (")
    path = place.rpartition(":")[0] or place.rstrip(")")
    for root in ("site-packages/", "python3.11/", f"{Path.cwd()}/"):
        path = path.rpartition(root)[2]
    return f"{function} {path}".strip()
