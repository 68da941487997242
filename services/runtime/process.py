"""What a process asks of its operating system."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End with SIGTERM when the parent process ends, so that a supervisor that is killed leaves nothing behind.

    Linux only; elsewhere it does nothing. A parent that is gone already (pid 1 has adopted us) is not waited for.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def open_files(wanted: int) -> int:
    """Let this process have so many files and connections open, if it may; returns how many it may have.

    Shells start what they run with 1,024, or 256, where the system allows far more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        with suppress(OSError, ValueError):  # what is refused is told by what is returned
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
