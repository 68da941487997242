"""SEC: every field of every request is bounded beside the field, so that nothing large is ever walked."""

import re
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from services.runtime.field_bounds import most_of, rules_of
from services.runtime.methods import DEFAULT_REQUEST_BYTES, MAX_MESSAGE_BYTES, is_batch, max_request_bytes
from tests.contract.test_access import BY_NAME, METHODS

FREE = {"google.protobuf.Struct", "google.protobuf.FieldMask"}
"""Bounded by `services.runtime.field_bounds`, as their messages are not ours."""


def fields(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    """All fields that a request can hold."""
    if message.full_name in seen or message.full_name.startswith("google."):
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from fields(field.message_type, seen)


REQUESTS = sorted(
    {field.full_name: field for method in METHODS for field in fields(method.input_type, set())}.values(),
    key=lambda field: field.full_name,
)


def is_text(field: FieldDescriptor) -> bool:
    return field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def is_bounded(rules: object) -> bool:
    """Whether a string's or bytes' rules say how long it may be."""
    text = rules.string  # type: ignore[attr-defined]
    if any(getattr(text, name) for name in ("max_len", "max_bytes", "len", "uuid")) or rules.bytes.max_len:  # type: ignore[attr-defined]
        return True
    most = re._parser.parse(text.pattern).getwidth()[1] if text.pattern else re._parser.MAXREPEAT  # type: ignore[attr-defined]
    return bool(most <= 512)


@pytest.mark.parametrize("field", REQUESTS, ids=lambda field: field.full_name)
def test_a_field_of_a_request_says_how_much_it_may_hold(field: FieldDescriptor) -> None:
    rules = rules_of(field)
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        assert most_of(field) > 0
        for part, each in (("key", rules.map.keys), ("value", rules.map.values)):
            assert not is_text(inner.fields_by_name[part]) or is_bounded(each)
    elif field.is_repeated:
        assert most_of(field) > 0
        assert not is_text(field) or is_bounded(rules.repeated.items)
    elif is_text(field):
        assert is_bounded(rules)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_request_with_all_that_its_fields_may_hold_is_no_larger_than_its_method_takes(
    method: MethodDescriptor,
) -> None:
    """Of the texts that one request repeats nowhere; a list of the longest texts may be refused as a whole."""
    if is_batch(method.input_type):
        single = BY_NAME[f"{method.containing_service.full_name}.{method.name.removeprefix('Batch')}"]
        assert max_request_bytes(method) == MAX_MESSAGE_BYTES > max_request_bytes(single)
        return
    texts = [rules_of(field).string.max_len for field in fields(method.input_type, set()) if not field.is_repeated]
    assert sum(texts) * 4 <= max_request_bytes(method)
    assert max_request_bytes(method) >= DEFAULT_REQUEST_BYTES
