"""One stack for all end-to-end tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mesh import Mesh, mesh
from tests.support.person import Person

LONGEST = 600
"""Seconds for one test, with the start of the stack when it is the first."""
PATIENT = {
    "PARLEY_TRACES_PER_SECOND": "0",
    "PARLEY_EDGE_SUBMIT_TIMEOUT_SECONDS": "60",
    "PARLEY_EDGE_CHAT_TIMEOUT_SECONDS": "120",
    "PARLEY_LIMITS_REDIS_BUDGET_SECONDS": "10",
    "PARLEY_CONTEXT_REDIS_TIMEOUT_SECONDS": "10",
    "PARLEY_DELIVERY_TIMEOUT_SECONDS": "20",
    "PARLEY_DELIVERY_RATE_ALONE_PER_MINUTE": "60000",
}
"""A machine that is slow for a moment is no store or provider that is away, which is what tests/chaos is about."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with mesh(tmp_path_factory.mktemp("mesh"), **PATIENT) as running:
        rate = ("--rule", "chat2desk-rate", "--limit", "10000", "--per", "60", "--channel", "demo-chat2desk")
        await running.parley_json("limits", "set", *rate)  # a quick run of all tests sends more than the rule's 300
        yield running


@pytest.fixture
def person(stack: Mesh) -> Person:
    return Person(stack)
