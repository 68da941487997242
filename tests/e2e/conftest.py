"""One stack for all end-to-end tests."""

from collections.abc import AsyncIterator

import pytest

from tests.support.mesh import Mesh, mesh
from tests.support.person import Person


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with mesh(tmp_path_factory.mktemp("mesh"), PARLEY_TRACES_PER_SECOND="0") as running:
        yield running


@pytest.fixture
def person(stack: Mesh) -> Person:
    return Person(stack)
