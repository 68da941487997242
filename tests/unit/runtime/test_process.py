"""What a process may have open."""

import resource
import subprocess
import sys

import pytest

from services.runtime.process import open_files

SETTINGS = "from services.edge.settings import EdgeSettings; from services.edge.wiring import bounds_of; "
SAY = "print(bounds_of(EdgeSettings(edge_max_connections=2000)).connections)"


def test_a_process_may_open_what_it_needs_whatever_its_shell_allows() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    try:
        assert open_files(1500) == 1500
        assert open_files(100) == 1500, "it takes nothing back"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(("hard", "connections"), [(4096, 2000), (1024, 896)])
def test_the_edge_lets_in_no_more_callers_than_the_system_does(hard: int, connections: int) -> None:
    allow = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard})); "
    done = subprocess.run([sys.executable, "-c", allow + SETTINGS + SAY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(connections)
