"""Timers of a lane: what is to happen in it at a time, unless something else happens before.

Whoever ends a lease says which timers the lane has from then on, so setting, moving and cancelling them is part of the
commit that ends the work, under its fence. While the lane is idle the first of them is its due time. A claim then makes
it the lane's next item, which is worked on once, in order, and is taken over like any other item when a worker dies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from services.runtime.logs import describe, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timer:
    """`kind` says what happens at the time `at`, and `data` holds what that needs, as JSON values."""

    kind: str
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Timer, ...]).decode


def pack(timers: Sequence[Timer]) -> str:
    """Timers as a lane stores them, the first one first; "" for none."""
    return _encode(sorted(timers, key=lambda timer: timer.at)).decode() if timers else ""


def unpack(stored: str) -> tuple[Timer, ...]:
    """Timers as `pack` has written them; none when they cannot be read, so that the lane's other items still are."""
    try:
        return _decode(stored) if stored else ()
    except msgspec.DecodeError as error:
        log.error("the timers of a lane cannot be read", error=describe(error), alert=True)
        return ()


def first_at(timers: Sequence[Timer]) -> datetime | None:
    """When the first of them is due."""
    return min((timer.at for timer in timers), default=None)
