"""What a command of ours may do, and when it ends."""

import os
import subprocess
import sys

import pytest

from deploy.local.server import child_command

AUTOGROUP = "/proc/self/autogroup"
SAY = """
import os, pathlib
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), group.read_text().split()[-1] if group.exists() else "none")
"""


def said(**options: int) -> list[str]:
    command = child_command([sys.executable, "-S", "-c", SAY], **options)  # type: ignore[arg-type]
    out = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True).stdout
    return out.split()


def test_a_command_gives_way_by_as_much_as_it_is_told() -> None:
    ours = os.nice(0)
    assert said()[0] == str(ours)
    assert said(nice=3)[0] == str(min(19, ours + 3))


@pytest.mark.skipif(not os.access(AUTOGROUP, os.W_OK), reason="needs a Linux that shares the processor by sessions")
def test_its_session_gives_way_too() -> None:
    assert said()[1] == "0"
    assert said(nice=3)[1] == "3"
