"""Environments for wheels under test: only what the wheels require, from the packages that are locked, with no network."""

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement


def made_for(requirements: Iterable[str], folder: Path) -> Path:
    """A new environment that has what these requirements need, linked from ours. Returns its interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", query], text=True).strip())
    for distribution in closure(requirements):
        link(distribution, site)
    return python


def install(python: Path, wheels: Path, name: str) -> None:
    """What `pip install` does, with a folder of wheels in place of an index: it finds whatever is not required."""
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", str(python)]
    command = [*pip, "install", "-q", "--no-index", "--find-links", str(wheels), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(command: list[str | Path], folder: Path, *, code: int = 0) -> str:
    """What a command prints that knows nothing of our tree; an AssertionError when it ends with another code."""
    given = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def closure(requirements: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    """The distributions that requirements need, each once, without ours."""
    waiting, seen = [Requirement(text) for text in requirements], set[tuple[str, str]]()
    names = set[str]()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name == "parley-client":
            continue
        distribution = importlib.metadata.distribution(name)
        if name not in names:
            names.add(name)
            yield distribution
        for extra in {"", *requirement.extras} - {had for known, had in seen if known == name}:
            seen.add((name, extra))
            needed = map(Requirement, distribution.requires or ())
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]


def link(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Let another environment have the files of a distribution of this one."""
    for file in distribution.files or ():
        source = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or not source.exists():
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.symlink(source, target)
