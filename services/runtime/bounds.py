"""Counts what a request repeats before the rules of the contract walk it: each wrong item of a long list costs time.

The numbers are those of the contract (`max_items`, `max_pairs`). Messages that are not ours have no rules there, and
are bounded here: field masks, free-form structs, and times and durations, of which protobuf lets any numbers pass.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2

from services.kernel.errors import FieldViolation

MOST_PATHS = 64
"""Paths of a field mask."""
MOST_VALUES = 2000
"""Values of a struct, at all its levels."""
DEEPEST = 16
"""Levels of a struct."""
_YEARS = (-62_135_596_800, 253_402_300_799)
"""The years 1 to 9999 in seconds since 1970, which is all that `Timestamp` stands for."""
_LONGEST = 315_576_000_000
"""Seconds of a `Duration`: 10,000 years."""

Check = Callable[[Any, str], Iterator[FieldViolation]]
"""Takes a message and the path of its field; tells what is too much in it."""


def too_much(request: Message) -> FieldViolation | None:
    """The first field of a request that holds more than it may, or no time; None when there is none."""
    return next(_check_of(request.DESCRIPTOR)(request, ""), None)


@cache
def _check_of(message: Descriptor) -> Check:
    """Counts in a message of this type; made once."""
    special = _SPECIAL.get(message.full_name)
    if special is not None:
        return special
    checks = [each for field in message.fields if (each := _field_check(field)) is not None]

    def check(value: Any, path: str) -> Iterator[FieldViolation]:
        for each in checks:
            yield from each(value, path)

    return check


def counts(message: Descriptor, above: frozenset[str] = frozenset()) -> bool:
    """Whether there is anything to count in a message of this type; `above` are the types that it stands in."""
    return message.full_name in _SPECIAL or any(
        field.is_repeated or _counts_below(field, above | {message.full_name})
        for field in message.fields
        if not is_ignored(field)
    )


def _counts_below(field: FieldDescriptor, above: frozenset[str]) -> bool:
    inner = field.message_type
    return inner is not None and inner.full_name not in above and counts(inner, above)


def is_ignored(field: FieldDescriptor) -> bool:
    """Whether the contract leaves a field alone: what stands in it is checked by itself."""
    return bool(rules_of(field).ignore == validate_pb2.IGNORE_ALWAYS)


def rules_of(field: FieldDescriptor) -> Any:
    """The rules of a field in the contract."""
    return field.GetOptions().Extensions[validate_pb2.field]


def most_of(field: FieldDescriptor) -> int:
    """How many items or pairs a repeated field may have by its contract; 0 without a rule."""
    rules = rules_of(field)
    return int(rules.map.max_pairs if rules.HasField("map") else rules.repeated.max_items)


def _field_check(field: FieldDescriptor) -> Check | None:
    """Counts in one field; None when there is nothing to count, or what it holds is checked by itself."""
    if is_ignored(field):
        return None
    name, inner = field.name, field.message_type
    is_map = inner is not None and inner.GetOptions().map_entry
    below = _check_of(inner) if inner is not None and not is_map and counts(inner) else None
    if field.is_repeated:
        return _repeated(name, most_of(field), below)
    if below is None:
        return None
    one = below

    def check(value: Any, path: str) -> Iterator[FieldViolation]:
        if value.HasField(name):
            yield from one(getattr(value, name), f"{path}{name}.")

    return check


def _repeated(name: str, most: int, below: Check | None) -> Check:
    def check(value: Any, path: str) -> Iterator[FieldViolation]:
        items = getattr(value, name)
        if most and len(items) > most:
            yield FieldViolation(f"{path}{name}", f"has {len(items)} items; there may be {most}")
        elif below is not None:
            for index, item in enumerate(items):
                yield from below(item, f"{path}{name}[{index}].")

    return check


def _mask(value: Any, path: str) -> Iterator[FieldViolation]:
    if len(value.paths) > MOST_PATHS:
        yield FieldViolation(path.rstrip("."), f"has {len(value.paths)} paths; there may be {MOST_PATHS}")


def _struct(value: Any, path: str) -> Iterator[FieldViolation]:
    """Level by level, and no further than what is allowed."""
    level, count, depth = [value], 0, 0
    while level:
        below: list[Any] = []
        for each in level:
            values = each.fields.values() if each.DESCRIPTOR.name == "Struct" else each.values
            count += len(values)
            if count > MOST_VALUES:
                yield FieldViolation(path.rstrip("."), f"has more than {MOST_VALUES} values")
                return
            for one in values:
                kind = one.WhichOneof("kind")
                if kind in ("struct_value", "list_value"):
                    below.append(getattr(one, kind))
        level, depth = below, depth + 1
        if depth > DEEPEST:
            yield FieldViolation(path.rstrip("."), f"is nested deeper than {DEEPEST} levels")
            return


def _time(value: Any, path: str) -> Iterator[FieldViolation]:
    if not (_YEARS[0] <= value.seconds <= _YEARS[1] and 0 <= value.nanos < 10**9):
        yield FieldViolation(path.rstrip("."), "is no time of the years 1 to 9999")


def _duration(value: Any, path: str) -> Iterator[FieldViolation]:
    if abs(value.seconds) > _LONGEST or abs(value.nanos) >= 10**9 or value.seconds * value.nanos < 0:
        yield FieldViolation(path.rstrip("."), "is no duration")


_SPECIAL: dict[str, Check] = {
    "google.protobuf.FieldMask": _mask,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Duration": _duration,
}
