"""BEY-1: the conversations over the whole mesh."""

import pytest

from tests.conversations.drivers import OverMesh
from tests.conversations.runner import Conversation, hold, load
from tests.support.mesh import Mesh
from tests.support.person import Person


@pytest.mark.parametrize("conversation", load("water_order"), ids=str)
async def test_conversation_goes_as_written(conversation: Conversation, stack: Mesh, person: Person) -> None:
    await hold(conversation, OverMesh(stack, person))
