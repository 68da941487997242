"""Which messages an operator may have answered again, and where they wait then."""

import pytest

from services.dialog.domain.turns import MessageState
from services.dialog.usecases.messages import Requeue, Unanswered, place_of
from services.kernel.errors import ParleyError

FAILED, TERMINAL = MessageState.FAILED, MessageState.TERMINAL


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (Unanswered(FAILED, rejected=False, queued=True, leased=False), Requeue.AT_HEAD),
        (Unanswered(TERMINAL, rejected=False, queued=True, leased=False), Requeue.AT_END),
        (Unanswered(TERMINAL, rejected=False, queued=True, leased=True), Requeue.AT_END),
    ],
)
def test_a_failed_message_keeps_its_place_and_a_dead_one_gets_a_new_one(message: Unanswered, place: Requeue) -> None:
    assert place_of(message) is place


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Unanswered(TERMINAL, rejected=True, queued=False, leased=False), "it was rejected"),
        (Unanswered(MessageState.RECEIVED, rejected=False, queued=True, leased=False), "it is RECEIVED"),
        (Unanswered(MessageState.COMPLETED, rejected=False, queued=True, leased=True), "it is COMPLETED"),
        (Unanswered(FAILED, rejected=False, queued=True, leased=True), "a worker is trying again just now"),
    ],
)
def test_no_other_message_is_answered_again(message: Unanswered, why: str) -> None:
    with pytest.raises(ParleyError) as refused:
        place_of(message)
    assert refused.value.reason == "WRONG_STATE"
    assert why in refused.value.message
