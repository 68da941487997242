"""Named points at which a test lets a process die, as a power cut would: between two lines, with no goodbye.

With `PARLEY_CRASH_FOLDER=/path`, the first process that reaches a point that has a file of its name in that folder
removes the file and kills itself: so a test arms deaths, each for once, in a stack that runs. Without the variable a
point costs one comparison.
"""

import os
import signal
from pathlib import Path

_folder = Path(os.environ["PARLEY_CRASH_FOLDER"]) if os.environ.get("PARLEY_CRASH_FOLDER") else None


def reach(name: str) -> None:
    """Say that this point was reached."""
    if _folder is not None and _armed(_folder, name):
        os.kill(os.getpid(), signal.SIGKILL)


def _armed(folder: Path, name: str) -> bool:
    """Whether this point has a file; then the file is gone, so that it happens once, in one process."""
    try:
        (folder / name).unlink()
    except FileNotFoundError:
        return False
    return True
