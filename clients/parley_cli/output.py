"""What commands print: tables for people, one JSON document for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant.", envvar="PARLEY_TENANT")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="How many at most.")]
DEFAULT_TENANT = "demo"


def as_dict(message: Message, **ids: str) -> dict[str, Any]:
    """A message with the protos' own field names, enums without their prefix, and absent fields as empty ones.

    `ids` renames: `id="message_id"` puts the value of `message_id` under `id` as well.
    """
    raw: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    shown = shorten(message, raw)
    return {alias: shown.get(name, "") for alias, name in ids.items()} | shown


def shorten(message: Message, raw: dict[str, Any]) -> dict[str, Any]:
    """Enum names without their type's prefix, 64-bit numbers as numbers, absent times as null."""
    for field in message.DESCRIPTOR.fields:
        value, kind = raw.get(field.name), field.message_type
        if value is None:
            if kind is not None and field.containing_oneof is None and not field.is_repeated:
                raw[field.name] = None
        elif field.enum_type is not None:
            raw[field.name] = each(value, lambda name, enum=field.enum_type: enum_label(enum.name, name))
        elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            raw[field.name] = each(value, int)
        elif kind is not None and kind.file.package != "google.protobuf" and not kind.GetOptions().map_entry:
            child = getattr(message, field.name)
            if field.is_repeated:
                raw[field.name] = [shorten(one, shown) for one, shown in zip(child, value, strict=True)]
            else:
                raw[field.name] = shorten(child, value)
    return raw


def each(value: Any, change: Any) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def enum_label(enum: str, name: object) -> str:
    """`COMPLETED` for `MESSAGE_STATE_COMPLETED` of `MessageState`; empty for the unspecified value."""
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum).lstrip("_") + "_"
    label = str(name).removeprefix(prefix)
    return "" if label == "UNSPECIFIED" else label


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing") -> None:
    """A table as wide as it needs to be, so that ids can be copied; or a word that there is nothing."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    if table.row_count:
        # Wider than the terminal, if need be: a line that wraps can still be copied, a cut id cannot.
        Console(highlight=False, width=max(console().width, 240)).print(table, crop=False)
    else:
        typer.echo(empty)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, a line each; what is empty is left out."""
    shown = {name: value for name, value in fields.items() if value not in ("", None, [], {})}
    width = max(map(len, shown), default=0) + 2
    for name, value in shown.items():
        line = Text(f"{name:<{width}}", style="cyan")
        line.append(value if isinstance(value, Text) else Text(str(value), style="default"))
        console().print(line, soft_wrap=True)


def console() -> Console:
    """Standard output. Not as narrow as a pipe's default, so that nothing is cut in a file."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(out.width, 240))


def moment(value: Timestamp | None) -> datetime | None:
    """A time in this machine's zone; None when there is none."""
    if value is None or not (value.seconds or value.nanos):
        return None
    return datetime.fromtimestamp(value.seconds + value.nanos / 1e9).astimezone()


def clock(value: Timestamp | None) -> str:
    """A time for a table."""
    when = moment(value)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else ""
