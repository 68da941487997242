"""A delivery as its parts: which one is next, and how the whole stands."""

from collections.abc import Sequence

import msgspec

from services.delivery.domain.parts import OPEN, Part, PartState, killed

Parts = tuple[Part, ...]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Parts).decode


def fresh(count: int) -> Parts:
    """Parts that nothing has happened to yet."""
    return (Part(),) * count


def head(parts: Parts) -> int | None:
    """The index of the part that is next; None when there is nothing left to do."""
    for index, part in enumerate(parts):
        if part.state in OPEN:
            return index
    return None


def with_part(parts: Parts, index: int, part: Part) -> Parts:
    """The parts with one exchanged. A dead part takes the rest of its delivery along."""
    if part.state is PartState.DEAD:
        rest = tuple(killed(later) if later.state in OPEN else later for later in parts[index + 1 :])
        return (*parts[:index], part, *rest)
    return (*parts[:index], part, *parts[index + 1 :])


def state(parts: Parts) -> PartState:
    """How the whole stands: as the part that is next; DEAD when one is dead, else SENT."""
    index = head(parts)
    if index is not None:
        return parts[index].state
    return PartState.DEAD if any(part.state is PartState.DEAD for part in parts) else PartState.SENT


def tries(parts: Parts) -> int:
    """Counted tries of the part that is next, or of the last one."""
    index = head(parts)
    return parts[-1 if index is None else index].tries


def dead(parts: Parts) -> int:
    """How many parts are dead."""
    return sum(part.state is PartState.DEAD for part in parts)


def last_sent(parts: Sequence[Part]) -> int:
    """When the last part was sent, in Unix milliseconds."""
    return max(part.sent for part in parts)


def last_error(parts: Parts) -> str:
    """What the last attempt of the first dead part ended with; empty when none is dead or it was never tried."""
    for part in parts:
        if part.state is PartState.DEAD and part.attempts:
            last = part.attempts[-1]
            return last.error or (f"HTTP {last.http_status}" if last.http_status else "")
        if part.state is PartState.DEAD:
            return ""
    return ""


def to_json(parts: Parts) -> str:
    """As stored."""
    return _encode(parts).decode()


def from_json(stored: str | None, count: int) -> Parts:
    """From what is stored; None stands for parts that nothing has happened to."""
    return fresh(count) if stored is None else _decode(stored)
