"""A short private folder per stack for the unix sockets of embedded servers."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

LONGEST = 80
"""The longest path of a folder, so that the path of a socket stays under the 104 that all systems allow."""


class UnsafeSocketDir(RuntimeError):
    """The folder for sockets belongs to somebody else, or others may enter it."""


def socket_dir(data_dir: Path) -> Path:
    """Creates the private folder (mode 0700) that belongs to a data folder, and returns it.

    It is named by a hash of the data folder's path, in the user's runtime folder or the temporary one. Raises
    `UnsafeSocketDir` when somebody else made it first.
    """
    name = f"parley-{os.getuid()}-{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:12]}"
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - owner is checked
        if base and os.access(base, os.W_OK | os.X_OK) and len(f"{base}/{name}") <= LONGEST:
            return private(Path(base, name))
    raise UnsafeSocketDir(f"no writable temporary folder with a path short enough for {name}")


def private(folder: Path) -> Path:
    """Creates a folder for this user alone, or checks that it is one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnsafeSocketDir(f"{folder} is not a folder of mode 0700 that belongs to you: remove it, then try again")
    return folder
