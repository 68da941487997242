"""A small rate limiter of this process alone, for when the limits service cannot be asked. Pure; seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The generic cell rate algorithm: one call each `interval`, with a burst.

    `next_free` is the theoretical arrival time of the next call (ITU-T I.371, annex A).
    """

    next_free: float = 0.0


def book(pace: Pace, now: float, *, interval: float, burst: int, longest: float) -> tuple[Pace, bool, float]:
    """Books the next free slot: the new state, whether it is granted, and in how many seconds the slot is.

    A slot later than `longest` is not booked; the seconds are then how long to wait before asking again.
    """
    free = max(pace.next_free, now)
    wait = max(0.0, free - now - interval * (burst - 1))
    if wait > longest:
        return pace, False, wait - longest
    return Pace(free + interval), True, wait
