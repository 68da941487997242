"""Run a command that cannot outlive whoever started it, nor run as root when it must not.

    python -I -S child_command.py [--on-orphaned SIGNAL] [--drop-root] [--nice N] -- COMMAND...

Replaces itself by the command, so the process id stays. Uses the standard library only, and little of it,
because it starts before every server. On systems without parent-death signals the command outlives its parent.
"""

import ctypes
import os
import pwd
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def drop_root() -> None:
    """Become `nobody`, able to reach files of a closed home directory still.

    PostgreSQL refuses to run as root. The one capability that is kept spares opening the permissions of every folder
    above the data and the programs; without it (a container that took it away) these folders must be open.
    """
    user = pwd.getpwnam("nobody")
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True)
    if linux:  # keeps capabilities over the change of user, and lets access(2), which PostgreSQL asks, heed them
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if linux:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        mask = 1 << CAP_DAC_OVERRIDE
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask)  # effective, permitted, inheritable
        if libc.capset(header, sets) == 0:
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with_parent(number: int, parent: int) -> None:
    """Ask for a signal when the parent dies; exit when it has died already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def give_way(nice: int) -> None:
    """Let others have the processor first, by so many steps of niceness.

    Where Linux shares the processor between sessions first, niceness counts within a session only and the session has
    one of its own. The kernel takes one change of it in a tenth of a second from all who are not root; one that it
    does not take costs speed and nothing else.
    """
    os.nice(nice)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        try:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(nice))
            return
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return


def main(arguments: list[str]) -> None:
    parent = os.getppid()
    options, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    if "--drop-root" in options and os.geteuid() == 0:
        drop_root()
    if "--on-orphaned" in options:  # after the change of user, which clears it
        die_with_parent(signal.Signals[options[options.index("--on-orphaned") + 1]], parent)
    if "--nice" in options:
        give_way(int(options[options.index("--nice") + 1]))
    os.execvp(command[0], command)  # noqa: S606 - replaces this process on purpose


if __name__ == "__main__":
    main(sys.argv[1:])
