"""Why a reply is not sent yet. Pure: from what is stored of it and its lane, and what is known of its channel."""

from dataclasses import dataclass
from enum import IntEnum


class WaitReason(IntEnum):
    """Numbers as in `parley.common.v1.WaitReason`."""

    QUEUED = 1
    BEHIND = 2
    IN_PROGRESS = 3
    RETRY = 5
    CHANNEL_DISABLED = 8
    CHANNEL_BROKEN = 9
    RATE = 10
    BREAKER = 11


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a reply waits for. `until` is in Unix milliseconds, 0 when nobody knows."""

    reason: WaitReason
    until: int = 0
    detail: str = ""
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A reply's place in its lane. Times are Unix milliseconds, 0 for none."""

    seq: int
    done_seq: int
    lane_due: int
    leased_until: int


@dataclass(frozen=True, slots=True)
class Road:
    """What is known of a reply's channel. `closed_until`: when its breaker or a pause ends; 0 when calls go out."""

    enabled: bool = True
    broken_reason: str = ""
    closed_until: int = 0


def why(place: Place, road: Road, *, due: int, slot: int, last_error: str, now: int) -> Waiting:
    """The one thing that it waits for, the first that applies.

    `due` and `slot` are of its first open part: when it may be tried, and when the provider's rate allows it.
    """
    ahead = place.seq - place.done_seq - 1
    if not road.enabled:
        return Waiting(WaitReason.CHANNEL_DISABLED, ahead=ahead)
    if road.broken_reason:
        return Waiting(WaitReason.CHANNEL_BROKEN, detail=road.broken_reason, ahead=ahead)
    if ahead > 0:
        return Waiting(WaitReason.BEHIND, ahead=ahead)
    if place.leased_until > now:
        return Waiting(WaitReason.IN_PROGRESS)
    if road.closed_until > now:
        return Waiting(WaitReason.BREAKER, road.closed_until, last_error)
    if slot > now:
        return Waiting(WaitReason.RATE, slot)
    if due > now or (last_error and place.lane_due > now):  # the latter after a pause of the channel, too
        return Waiting(WaitReason.RETRY, max(due, place.lane_due), last_error)
    if place.lane_due > now:
        return Waiting(WaitReason.RATE, place.lane_due)
    return Waiting(WaitReason.QUEUED)
