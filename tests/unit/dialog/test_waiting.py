"""Why a message waits: a row per reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from parley.common.v1 import waiting_pb2

from services.dialog.domain.turns import MessageState
from services.dialog.domain.wait_reason import QueuePlace, why

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=40)
FIRST = QueuePlace(
    state=MessageState.RECEIVED,
    seq=5,
    done_seq=4,
    due_at=NOW,
    lease_until=None,
    parked=None,
    planned=False,
    last_error="",
    now=NOW,
)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (FIRST, "QUEUED"),
        (replace(FIRST, seq=7), "BEHIND"),
        (replace(FIRST, due_at=None, parked="water"), "BOT_DISABLED"),
        (replace(FIRST, seq=7, due_at=None, parked="water"), "BOT_DISABLED"),
        (replace(FIRST, due_at=LATER, lease_until=LATER), "IN_PROGRESS"),
        (replace(FIRST, due_at=NOW, lease_until=NOW), "QUEUED"),  # its worker was lost
        (replace(FIRST, due_at=LATER, planned=True, last_error="delivery is not answering"), "EFFECTS"),
        (replace(FIRST, due_at=LATER, state=MessageState.FAILED, last_error="MODEL_TIMEOUT"), "RETRY"),
        (replace(FIRST, due_at=LATER), "PUT_OFF"),
    ],
)
def test_each_reason_is_told(place: QueuePlace, reason: str) -> None:
    waiting = why(place)
    assert waiting is not None
    assert waiting_pb2.WaitReason.Name(waiting.reason) == f"WAIT_REASON_{reason}"
    assert waiting.ahead == (2 if place.seq == 7 else 0)


def test_when_it_is_tried_again_and_why_is_told() -> None:
    waiting = why(replace(FIRST, due_at=LATER, state=MessageState.FAILED, last_error="MODEL_TIMEOUT: 30 s"))
    assert waiting is not None
    assert waiting.until.ToDatetime(UTC) == LATER
    assert waiting.detail == "MODEL_TIMEOUT: 30 s"


@pytest.mark.parametrize(
    "place",
    [
        replace(FIRST, state=MessageState.COMPLETED),
        replace(FIRST, state=MessageState.TERMINAL),
        replace(FIRST, seq=None),
        replace(FIRST, seq=4),
    ],
)
def test_what_is_over_waits_for_nothing(place: QueuePlace) -> None:
    assert why(place) is None
