"""BEY-1: the conversations with the flows alone. tests/e2e holds them over a running stack."""

import pytest

from tests.conversations.drivers import InProcess
from tests.conversations.runner import Conversation, Line, check_reply, hold, load

WATER = load("water_order")


@pytest.mark.parametrize("conversation", WATER, ids=str)
async def test_conversation_goes_as_written(conversation: Conversation) -> None:
    await hold(conversation, InProcess())


@pytest.mark.parametrize(
    "line",
    [
        Line("Привет", reply={"exact": "Пока"}),
        Line("Привет", reply={"contains": ["Здравствуйте", "Пока"]}),
        Line("Привет", reply={"matches": "^адрес"}),
        Line("Привет", step="waiting_phone"),
        Line("Привет", slots={"address": "x"}),
        Line("Привет", orders=[{}]),
    ],
)
async def test_what_is_not_as_written_fails(line: Line) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        await hold(Conversation("file", "title", [line]), InProcess())


def test_a_reply_that_is_as_expected_passes() -> None:
    check_reply("here", "Да, 5 бут.", {"contains": "5", "matches": r"\d бут", "exact": "Да, 5 бут."})
