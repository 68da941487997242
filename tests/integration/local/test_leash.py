"""What a leashed command may and may not do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.server import leashed

SAY = """
import os, pathlib
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), group.read_text().split()[-1] if group.exists() else "none")
"""


def said(**options: int) -> list[str]:
    command = leashed([sys.executable, "-S", "-c", SAY], **options)  # type: ignore[arg-type]
    out = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True).stdout
    return out.split()


def test_a_command_gives_way_by_as_much_as_it_is_told() -> None:
    ours = os.nice(0)
    assert said()[0] == str(ours)
    assert said(nice=3)[0] == str(min(19, ours + 3))


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="needs sessions that share the processor")
def test_its_session_gives_way_too() -> None:
    assert said()[1] == "0"
    assert said(nice=3)[1] == "3"
