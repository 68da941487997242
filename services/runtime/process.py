"""What a process asks of its operating system."""

import ctypes
import os
import signal
import sys

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
