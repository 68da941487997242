"""Reads and checks what callers send."""

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from services.edge.problems import Problem

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, not_json: int) -> T:
    """Decodes a body. Raises Problem: 422 with the name of a missing or wrong field, `not_json` for what is no JSON."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".")
        if "missing required field" in what:
            field = what.rpartition("`")[0].rpartition("`")[2]
            what = "is missing"
        raise Problem(422, "INVALID_FIELD", f"{field or 'body'}: {what}", field or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested too deeply
        raise Problem(not_json, "INVALID_FIELD", "The body is not JSON.", "$") from None


def clean(text: str) -> str:
    """The text without NUL, which Postgres refuses."""
    return text.replace("\x00", "") if "\x00" in text else text


def required(value: int | str | None, field: str) -> str:
    """Returns an id of 1 to 128 characters. Raises Problem for any other."""
    text = clean(str(value)) if value is not None else ""
    if not text:
        raise Problem(422, "INVALID_FIELD", f"{field}: is missing", field)
    if len(text) > 128:
        raise Problem(422, "INVALID_FIELD", f"{field}: is longer than 128 characters", field)
    return text


def timestamp(text: str | None) -> Timestamp | None:
    """A time like `2025-01-31T12:00:00Z`; None when it cannot be read, as the time of arrival is kept anyway."""
    if not text:
        return None
    stamp = Timestamp()
    try:
        when = datetime.fromisoformat(text)
        stamp.FromDatetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # the latter: a time zone that takes it out of the years 1 to 9999
        return None
    return stamp
