"""Requests that are good but for one field, which holds what only somebody hostile or broken would send."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Values = Mapping[str, Callable[[], Any]]
"""A good value of a field, by its full name or its name."""

TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "-" * 36,
    "{018f0000-0000-7000-8000-000000000000}",
    "018F0000-0000-7000-8000-000000000000",
    "0" * 36,
    "x" * 63,
    "x" * 64,
    "x" * 129,
    "9" * 400,
    "+",
    "+7" + "0" * 14,
    "\u202e\ufeff",
    "\ufffe\uffff\U0010ffff",
    "\u0315\u0316" * 40,
    "ﷺ" * 40,
    "{summary!r}",
    "%s%n",
    "'; --",
    "*",
    "..",
    "NaN",
    "2026-13-45T99:99:99Z",
    "Etc/../UTC",
    "/etc/passwd",
    "http://\x00",
    "http://[::1",
    "https://a:99999",
    "https://a b/",
    "https://user:x@example.com/",
    "https://xn--\u0130.example",
    "a: &x [*x, *x]",
    "- [" * 30,
)
BYTES = (b"", b"\x00", b"\xff" * 40)
INTEGERS = {32: (0, 1, -1, 2**31 - 1, -(2**31)), 64: (0, 1, -1, 2**53, 2**63 - 1, -(2**63))}
ENUMS = (0, 1, 77, -1, 2**31 - 1, -(2**31))
FLOATS = (0.0, -0.0, 1e308, math.nan, math.inf, -math.inf)
YEAR_10000, YEAR_0 = 253_402_300_800, -62_135_596_801
TIMES = (
    (0, 0),
    (-1, 0),
    (0, -1),
    (1, -1),
    (0, 10**9),
    (YEAR_10000 - 1, 10**9 - 1),
    (YEAR_10000, 0),
    (YEAR_0 + 1, 0),
    (YEAR_0, 0),
    (2**63 - 1, 2**31 - 1),
    (-(2**63), -(2**31)),
)
"""Seconds and nanoseconds."""
REPEATED = 40

Edit = Callable[[Any], None]
"""Spoils one field of the message that it stands in."""


def good(message: Descriptor, values: Values) -> Any:
    """A request as a well-meaning caller sends it: each field that `values` knows, and the messages around those."""
    made = GetMessageClass(message)()
    for field in message.fields:
        given = values.get(field.full_name, values.get(field.name))
        if given is not None:
            _put(made, field, given())
        elif field.message_type is not None and not field.is_repeated and not _is_free(field.message_type):
            inner = good(field.message_type, values)
            if inner.ByteSize():
                getattr(made, field.name).CopyFrom(inner)
    return made


def _put(made: Any, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(made, field.name).extend(value)
    elif isinstance(value, Message):
        getattr(made, field.name).CopyFrom(value)
    else:
        setattr(made, field.name, value)


def spoiled(message: Descriptor, values: Values) -> Iterator[tuple[str, Any]]:
    """Good requests, each with one spoiled field, and what was done."""
    for path, edit in _edits(message, "", ()):
        request = good(message, values)
        try:
            edit(request)
        except (ValueError, TypeError):  # what protobuf itself does not write, for example a number that is no enum's
            continue
        yield path, request


def spoiled_often(message: Descriptor, values: Values, count: int, seed: int) -> Iterator[tuple[str, Any]]:
    """So many requests with two to five spoiled fields each, the same ones for a seed."""
    choose = Random(seed)
    edits = list(_edits(message, "", ()))
    for _ in range(count if edits else 0):
        some = choose.sample(edits, min(len(edits), choose.randint(2, 5)))
        request = good(message, values)
        for _, edit in some:
            with suppress(ValueError, TypeError):
                edit(request)
        yield " and ".join(path for path, _ in some), request


def _edits(message: Descriptor, path: str, above: tuple[str, ...]) -> Iterator[tuple[str, Edit]]:
    if message.full_name in above:
        return
    for field in message.fields:
        here = f"{path}{field.name}"
        yield f"{here} absent", lambda made, name=field.name: made.ClearField(name)  # type: ignore[misc]
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            yield from ((f"{here}[{key!r}]", _in_map(field, key)) for key in TEXTS[:6])
        elif inner is not None and field.is_repeated:
            yield f"{here} empty items", _empty_items(field.name)
            for where, edit in _edits(inner, f"{here}[].", (*above, message.full_name)):
                yield where, _in_item(field.name, edit)
        elif inner is not None:
            yield f"{here} empty", lambda made, name=field.name: getattr(made, name).SetInParent()  # type: ignore[misc]
            for where, edit in _of_message(inner, here, (*above, message.full_name)):
                yield where, _in_message(field.name, edit)
        else:
            yield from ((f"{here} = {value!r:.40}", _set(field, value)) for value in _values(field))


def _of_message(message: Descriptor, path: str, above: tuple[str, ...]) -> Iterator[tuple[str, Edit]]:
    if message.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        for seconds, nanos in TIMES:
            yield f"{path} = {seconds}s {nanos}ns", _time(seconds, nanos)
    elif message.full_name == "google.protobuf.FieldMask":
        for text in (*TEXTS, "tenant_id", "bot.bot_id", "dialog.slots", "client.name.x", "*", "form.form_id"):
            yield f"{path} = {text!r:.40}", lambda made, text=text: made.paths.append(text)  # type: ignore[misc]
    elif message.full_name == "google.protobuf.Struct":
        for text, number in itertools.product(TEXTS[:6], FLOATS):
            yield f"{path} = {text!r} {number}", _struct(text, number)
    else:
        yield from _edits(message, f"{path}.", above)


def _values(field: FieldDescriptor) -> tuple[Any, ...]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return BYTES if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return ENUMS
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return FLOATS
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return (True, False)
    return INTEGERS[32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64]


def _set(field: FieldDescriptor, value: Any) -> Edit:
    def edit(made: Any) -> None:
        if field.is_repeated:
            getattr(made, field.name).extend([value] * 2)
        else:
            setattr(made, field.name, value)

    return edit


def _in_message(name: str, edit: Edit) -> Edit:
    def inside(made: Any) -> None:
        getattr(made, name).SetInParent()
        edit(getattr(made, name))

    return inside


def _in_item(name: str, edit: Edit) -> Edit:
    def inside(made: Any) -> None:
        items = getattr(made, name)
        edit(items[0] if items else items.add())

    return inside


def _in_map(field: FieldDescriptor, key: str) -> Edit:
    def edit(made: Any) -> None:
        getattr(made, field.name)[key] = key

    return edit


def _empty_items(name: str) -> Edit:
    def edit(made: Any) -> None:
        for _ in range(REPEATED):
            getattr(made, name).add()

    return edit


def _time(seconds: int, nanos: int) -> Edit:
    def edit(made: Any) -> None:
        made.seconds, made.nanos = seconds, nanos

    return edit


def _struct(text: str, number: float) -> Edit:
    def edit(made: Any) -> None:
        made.fields[text].string_value = text
        made.fields[f"n{text}"].number_value = number
        made.fields["l"].list_value.values.add().struct_value.fields[text].null_value = 0
        made.fields["none"].SetInParent()

    return edit


def _is_free(message: Descriptor) -> bool:
    return message.full_name.startswith("google.")
