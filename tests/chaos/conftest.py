"""A stack that may be hurt: leases are short, and deaths can be armed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mesh import Mesh, mesh

QUICK = {
    "PARLEY_DIALOG_LEASE_SECONDS": "2",
    "PARLEY_DELIVERY_LEASE_SECONDS": "2",
    "PARLEY_DELIVERY_TIMEOUT_SECONDS": "5",
    "PARLEY_DELIVERY_FIRST_DELAY_SECONDS": "0.2",
    "PARLEY_EDGE_SUBMIT_TIMEOUT_SECONDS": "3",
    "PARLEY_EDGE_CHAT_TIMEOUT_SECONDS": "20",
    "PARLEY_RESTART_LONGEST_SECONDS": "0.3",
    "PARLEY_TRACE_RATIO": "0",
}
"""What makes a stack get over a death within seconds. A call to a provider may take as long as a busy machine may, for
one that is given up counts as possibly sent."""
LONGEST = 600
"""Seconds for one test, with the start of the stack when it is the first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    home = tmp_path_factory.mktemp("chaos")
    armed = home / "armed"
    await asyncio.to_thread(armed.mkdir)
    async with mesh(home, PARLEY_CRASH_FOLDER=str(armed), **QUICK) as running:
        rate = ("--rule", "chat2desk-rate", "--limit", "100000", "--per", "60", "--channel", "demo-chat2desk")
        await running.parley_json("limits", "set", *rate)  # the crowd writes more than a channel may send
        yield running


@pytest.fixture(scope="session")
def armed(stack: Mesh) -> Path:
    """A file in it, named like a point, is a death at that point."""
    return stack.home / "armed"
