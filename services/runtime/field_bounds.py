"""Counts what a request repeats before the rules of the contract walk it: each wrong item of a long list costs time.

The numbers are those of the contract (`max_items`, `max_pairs`). Messages that are not ours have no rules there, and
are bounded here: field masks, free-form structs, and times and durations, of which protobuf lets any numbers pass.
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
"""Paths of a field mask."""
MOST_VALUES = 2000
"""Values of a struct, at all its levels."""
DEEPEST = 16
"""Levels of a struct."""
_YEARS = (-62_135_596_800, 253_402_300_799)
"""The years 1 to 9999 in seconds since 1970, which is all that `Timestamp` stands for."""
_LONGEST = 315_576_000_000
"""Seconds of a `Duration`: 10,000 years."""

Check = Callable[[Any], FieldViolation | None]
"""Takes a message; tells what is too much in it, by its path from there ("": the message itself).

Every request is counted, and nearly all are good: so a path is made on the way back only, and nothing is made for what
is good.
"""


def too_much(request: Message) -> FieldViolation | None:
    """The first field of a request that holds more than it may, or no time; None when there is none."""
    return _check_of(request.DESCRIPTOR)(request)


@cache
def _check_of(message: Descriptor) -> Check:
    """Counts in a message of this type; made once."""
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
    """Whether there is anything to count in a message of this type; `above` are the types that it stands in."""
    return message.full_name in _SPECIAL or any(
        field.is_repeated or _counts_below(field, above | {message.full_name})
        for field in message.fields
        if not _stands_apart(field)
    )


def _counts_below(field: FieldDescriptor, above: frozenset[str]) -> bool:
    inner = field.message_type
    return inner is not None and inner.full_name not in above and counts(inner, above)


def is_ignored(field: FieldDescriptor) -> bool:
    """Whether the contract's rules leave a field alone."""
    return bool(rules_of(field).ignore == validate_pb2.IGNORE_ALWAYS)


def _stands_apart(field: FieldDescriptor) -> bool:
    """Whether what stands in a field is checked by itself, as an item of a batch is. Messages that are not ours have no
    rules to be left out, and are always counted."""
    return is_ignored(field) and (field.message_type is None or field.message_type.full_name not in _SPECIAL)


def rules_of(field: FieldDescriptor) -> Any:
    """The rules of a field in the contract."""
    return field.GetOptions().Extensions[validate_pb2.field]


def most_of(field: FieldDescriptor) -> int:
    """How many items or pairs a repeated field may have by its contract; 0 without a rule."""
    rules = rules_of(field)
    return int(rules.map.max_pairs if rules.HasField("map") else rules.repeated.max_items)


def _field_check(field: FieldDescriptor) -> Check | None:
    """Counts in one field; None when there is nothing to count, or what it holds is checked by itself."""
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
    """Level by level, and no further than what is allowed."""
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
    """One level of a struct's values; none of one that has too many of them by itself, which costs nothing to count."""
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
