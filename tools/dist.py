"""Build the wheels of `parley_client` and `parley` into `dist/`. Needs no network.

    python -m tools.dist [FOLDER]

The same sources give the same bytes: files get the date of SOURCE_DATE_EPOCH (1980 when it is not set) and usual
permissions. Each build works on a copy, so that what an earlier one has left in the tree is not packed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ("clients", ".")
"""Folders with a pyproject.toml."""
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "requirements", "clients", "deploy", "gen", "services")
OLDEST_DATE = "315532800"
"""The first second that a wheel, which is a zip file, can name."""
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("parley*.whl"):
        old.unlink()
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in SOURCES:
            copy_sources(ROOT / name, copy / name)
        for project in PROJECTS:
            built = build(copy / project, folder)
            if built.returncode:
                print(built.stdout, file=sys.stderr)
                return 1
    for wheel in sorted(folder.glob("parley*.whl")):
        print(wheel)
    return 0


def copy_sources(source: Path, target: Path) -> None:
    """Copy contents and nothing else: links as what they point to, no permissions, no compiled code."""
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)


def build(project: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Build one wheel with the locked setuptools of this environment."""
    environment = {"SOURCE_DATE_EPOCH": OLDEST_DATE, **os.environ}
    command = [sys.executable, "-c", BUILD, str(folder)]
    return subprocess.run(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
