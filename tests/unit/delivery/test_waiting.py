"""Why a reply waits: a row per reason."""

import pytest

from parley.common.v1 import waiting_pb2

from services.delivery.domain.waiting import Place, Road, Waiting, WaitReason, why

NOW, LATER = 1_000_000, 1_040_000
FIRST = Place(seq=5, done_seq=4, lane_due=NOW, leased_until=0)
BEHIND = Place(seq=8, done_seq=4, lane_due=NOW, leased_until=0)


@pytest.mark.parametrize(
    ("place", "road", "due", "slot", "told"),
    [
        (FIRST, Road(), 0, 0, Waiting(WaitReason.QUEUED)),
        (BEHIND, Road(), 0, 0, Waiting(WaitReason.BEHIND, ahead=3)),
        (FIRST, Road(enabled=False), LATER, 0, Waiting(WaitReason.CHANNEL_DISABLED)),
        (BEHIND, Road(broken_reason="401"), 0, 0, Waiting(WaitReason.CHANNEL_BROKEN, detail="401", ahead=3)),
        (Place(5, 4, LATER, LATER), Road(), 0, 0, Waiting(WaitReason.IN_PROGRESS)),
        (FIRST, Road(closed_until=LATER), 0, 0, Waiting(WaitReason.BREAKER, LATER, "HTTP 502")),
        (FIRST, Road(), 0, LATER, Waiting(WaitReason.RATE, LATER)),
        (FIRST, Road(), LATER, 0, Waiting(WaitReason.RETRY, LATER, "HTTP 502")),
        (Place(5, 4, LATER, 0), Road(), NOW - 1, 0, Waiting(WaitReason.RETRY, LATER, "HTTP 502")),
    ],
)
def test_each_reason_is_told(place: Place, road: Road, due: int, slot: int, told: Waiting) -> None:
    assert why(place, road, due=due, slot=slot, last_error="HTTP 502", now=NOW) == told


def test_a_reply_that_was_put_off_before_its_first_try_waits_for_the_rate() -> None:
    told = why(Place(5, 4, LATER, 0), Road(), due=0, slot=0, last_error="", now=NOW)
    assert told == Waiting(WaitReason.RATE, LATER)


def test_the_numbers_are_those_of_the_contract() -> None:
    for reason in WaitReason:
        assert int(waiting_pb2.WaitReason.Value(f"WAIT_REASON_{reason.name}")) == int(reason)
