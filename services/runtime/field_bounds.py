"""Checks the lengths of lists and maps in a request before the rules of the contract walk them item by item.

The bounds are those of the contract (`max_items`, `max_pairs`). Field masks, free-form structs, times and durations are
not our messages and have no rules in it, so they are bounded here.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2

from services.kernel.errors import FieldViolation

MOST_PATHS = 64
"""The most paths of a field mask."""
MOST_VALUES = 2000
"""The most values of a struct, over all its levels."""
DEEPEST = 16
"""The most levels of a struct."""
_YEARS = (-62_135_596_800, 253_402_300_799)
"""The years 1 to 9999, in seconds since 1970: the range of a `Timestamp`."""
_LONGEST = 315_576_000_000
"""Seconds of a `Duration`: 10,000 years."""

Check = Callable[[Any], FieldViolation | None]
"""Takes a message, and returns what is too much in it with its path from there ("": the message itself).

Nearly all requests are valid, so a path is put together only on the way back from a violation.
"""


def too_much(request: Message) -> FieldViolation | None:
    """Returns the first field of a request that holds too much or is no valid time; None if there is none."""
    return _check_of(request.DESCRIPTOR)(request)


@cache
def _check_of(message: Descriptor) -> Check:
    """Returns the check for messages of a type, which is made once."""
    special = _SPECIAL.get(message.full_name)
    if special is not None:
        return special
    checks = tuple(each for field in message.fields if (each := _field_check(field)) is not None)
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> FieldViolation | None:
        for each in checks:
            found = each(value)
            if found is not None:
                return found
        return None

    return check


def counts(message: Descriptor, above: frozenset[str] = frozenset()) -> bool:
    """Tells whether messages of a type hold anything to count. `above` are the types that it is nested in."""
    return message.full_name in _SPECIAL or any(
        field.is_repeated or _counts_below(field, above | {message.full_name})
        for field in message.fields
        if not _stands_apart(field)
    )


def _counts_below(field: FieldDescriptor, above: frozenset[str]) -> bool:
    inner = field.message_type
    return inner is not None and inner.full_name not in above and counts(inner, above)


def is_ignored(field: FieldDescriptor) -> bool:
    """Tells whether the rules of the contract ignore a field."""
    return bool(rules_of(field).ignore == validate_pb2.IGNORE_ALWAYS)


def _stands_apart(field: FieldDescriptor) -> bool:
    """Tells whether the content of a field is checked on its own, as an item of a batch is. Messages that are not ours
    are always counted."""
    return is_ignored(field) and (field.message_type is None or field.message_type.full_name not in _SPECIAL)


def rules_of(field: FieldDescriptor) -> Any:
    """Returns the rules of a field in the contract."""
    return field.GetOptions().Extensions[validate_pb2.field]


def most_of(field: FieldDescriptor) -> int:
    """Returns how many items or pairs the contract allows in a repeated field; 0 without a rule."""
    rules = rules_of(field)
    return int(rules.map.max_pairs if rules.HasField("map") else rules.repeated.max_items)


def _field_check(field: FieldDescriptor) -> Check | None:
    """Returns the check of one field; None if there is nothing to count, or its content is checked on its own."""
    if _stands_apart(field):
        return None
    name, inner = field.name, field.message_type
    is_map = inner is not None and inner.GetOptions().map_entry
    below = _check_of(inner) if inner is not None and not is_map and counts(inner) else None
    if field.is_repeated:
        return _repeated(name, most_of(field), below)
    if below is None:
        return None
    one = below

    def check(value: Any) -> FieldViolation | None:
        if not value.HasField(name):
            return None
        found = one(getattr(value, name))
        return None if found is None else _within(name, found)

    return check


def _repeated(name: str, most: int, below: Check | None) -> Check:
    most = most or sys.maxsize

    def check_number(value: Any) -> FieldViolation | None:
        count = len(getattr(value, name))
        return None if count <= most else _many(name, count, most)

    if below is None:
        return check_number
    one = below

    def check(value: Any) -> FieldViolation | None:
        items = getattr(value, name)
        if len(items) > most:
            return _many(name, len(items), most)
        for index, item in enumerate(items):
            found = one(item)
            if found is not None:
                return _within(f"{name}[{index}]", found)
        return None

    return check


def _many(name: str, count: int, most: int) -> FieldViolation:
    return FieldViolation(name, f"has {count} items; there may be {most}")


def _within(place: str, found: FieldViolation) -> FieldViolation:
    return FieldViolation(f"{place}.{found.field}" if found.field else place, found.description)


def _mask(value: Any) -> FieldViolation | None:
    count = len(value.paths)
    return None if count <= MOST_PATHS else FieldViolation("", f"has {count} paths; there may be {MOST_PATHS}")


def _struct(value: Any) -> FieldViolation | None:
    """Walks a struct level by level, but no further than is allowed."""
    level, count, depth = [_values(value)], 0, 0
    while level:
        below: list[list[Any]] = []
        for values in level:
            count += len(values)
            if count > MOST_VALUES:
                return FieldViolation("", f"has more than {MOST_VALUES} values")
            for one in values:
                kind = one.WhichOneof("kind")
                if kind == "struct_value":
                    below.append(_values(one.struct_value))
                elif kind == "list_value":
                    below.append(one.list_value.values)
        level, depth = below, depth + 1
        if depth > DEEPEST:
            return FieldViolation("", f"is nested deeper than {DEEPEST} levels")
    return None


def _values(struct: Any) -> list[Any]:
    """Returns one level of a struct's values."""
    fields = struct.fields  # its values() takes twice as long
    return [fields[name] for name in fields]


def _time(value: Any) -> FieldViolation | None:
    if _YEARS[0] <= value.seconds <= _YEARS[1] and 0 <= value.nanos < 10**9:
        return None
    return FieldViolation("", "is no time of the years 1 to 9999")


def _duration(value: Any) -> FieldViolation | None:
    if abs(value.seconds) > _LONGEST or abs(value.nanos) >= 10**9 or value.seconds * value.nanos < 0:
        return FieldViolation("", "is no duration")
    return None


_SPECIAL: dict[str, Check] = {
    "google.protobuf.FieldMask": _mask,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Duration": _duration,
}
