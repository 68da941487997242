"""A circuit breaker: stops calling what fails, then asks again with one call. Pure; times in seconds.

Closed --`failures` in a row--> Open --time is over, one call--> HalfOpen --it works--> Closed
                                 ^------------- it fails, wait longer ---'
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures` in a row open it: for `first_open` seconds, then twice as long each time up to `longest_open`.

    A probe that gives no word within `probe` seconds is taken for lost, and the next call is one.
    """

    failures: int = 5
    first_open: float = 2.0
    longest_open: float = 60.0
    probe: float = 15.0


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls go through; so many have failed in a row."""

    failures: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """No calls until then. `times` counts openings in a row."""

    until: float
    times: int


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One call is under way to find out; the others wait for it, at most until then."""

    until: float
    times: int


Breaker = Closed | Open | HalfOpen


def admit(breaker: Breaker, now: float, policy: BreakerPolicy) -> tuple[Breaker, float]:
    """May a call go out? Returns the new state, and 0 for yes or the seconds to wait."""
    match breaker:
        case Closed():
            return breaker, 0.0
        case Open(until, times) | HalfOpen(until, times):
            if now < until:
                return breaker, until - now
            return HalfOpen(now + policy.probe, times), 0.0


def succeeded(breaker: Breaker) -> tuple[Breaker, bool]:
    """A call was answered. Returns the new state, and whether what is called has just recovered."""
    return Closed(), not isinstance(breaker, Closed)


def failed(breaker: Breaker, now: float, policy: BreakerPolicy) -> Breaker:
    """A call failed in a way that blames what is called, or the network."""
    match breaker:
        case Closed(failures):
            if failures + 1 < policy.failures:
                return Closed(failures + 1)
            return Open(now + policy.first_open, 1)
        case HalfOpen(_, times):
            longer = min(policy.first_open * 2.0 ** min(times, 30), policy.longest_open)
            return Open(now + longer, times + 1)
        case Open():
            return breaker
