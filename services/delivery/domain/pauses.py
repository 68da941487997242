"""How long a channel rests when its provider asks for it. Pure; times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PausePolicy:
    """A pause lasts for `first` seconds at least, twice as long each time in a row up to `longest`, whatever time the
    provider names; and for `unnamed` at least when it names none.
    """

    first: float = 1.0
    longest: float = 60.0
    unnamed: float = 5.0


@dataclass(frozen=True, slots=True)
class Pause:
    """No calls until then. `times` counts pauses in a row, without a good answer between them."""

    until: float = 0.0
    times: int = 0


def limited(pause: Pause, now: float, named: float | None, policy: PausePolicy) -> Pause:
    """The provider asks for a pause of `named` seconds; None when it names no time.

    Answers to calls that were under way when a pause began belong to that pause. With `Retry-After: 0` again and again:
    1, 2, 4, 8, 16, 32, 60, 60 ... seconds.
    """
    if now < pause.until:
        return Pause(max(pause.until, now + (named or 0.0)), pause.times)
    grown = min(policy.first * 2.0 ** min(pause.times, 30), policy.longest)
    return Pause(now + max(grown, policy.unnamed if named is None else named), pause.times + 1)
