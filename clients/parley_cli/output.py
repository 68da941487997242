"""Printing: tables for people, one JSON document for programs."""

import json
import time
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

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant.", envvar="PARLEY_TENANT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="How many at most.")]
DEFAULT_TENANT = "demo"
SHORTEST = 12
"""Characters that a column keeps when it gives way to the others."""


def as_dict(message: Message, **ids: str) -> dict[str, Any]:
    """Converts a message: field names as in the protos, enum values without their prefix, absent fields as empty ones.

    `ids` adds names: `id="message_id"` puts the value of `message_id` under `id` as well.
    """
    raw: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    shown = shorten(message, raw)
    return {alias: shown.get(name, "") for alias, name in ids.items()} | shown


def shorten(message: Message, raw: dict[str, Any]) -> dict[str, Any]:
    """Shortens enum names, turns 64-bit numbers from strings into numbers, and absent times into null."""
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
    """Returns `COMPLETED` for `MESSAGE_STATE_COMPLETED` of `MessageState`, and nothing for the unspecified value."""
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum).lstrip("_") + "_"
    label = str(name).removeprefix(prefix)
    return "" if label == "UNSPECIFIED" else label


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing", *, gives_way: str = ""
) -> None:
    """Prints a table as wide as it needs to be, so that ids can be copied, or `empty` if there are no rows.

    On a terminal, the column `gives_way` is cut to fit; in a pipe nothing is cut.
    """
    cells = [[cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row] for row in rows]
    if not cells:
        typer.echo(empty)
        return
    out = console()
    if gives_way and out.is_terminal:
        make_room(cells, columns, columns.index(gives_way), out.width)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        table.add_row(*row)
    # A line that wraps can still be copied, a cut id cannot.
    wide = sum(widths(cells, columns)) + 2 * len(columns)
    Console(highlight=False, width=max(out.width, wide)).print(table, crop=False)


def one_line(cell: object) -> str:
    """Returns a cell's text without line breaks."""
    return " ".join(str(cell).split()) if isinstance(cell, str) else str(cell)


def make_room(cells: Sequence[Sequence[Text]], columns: Sequence[str], index: int, room: int) -> None:
    """Cuts the cells of one column so that a row fits, but keeps enough to read."""
    needed = widths(cells, columns)
    left = max(room - sum(needed) + needed[index] - 2 * (len(columns) - 1), SHORTEST)
    for row in cells:
        row[index].truncate(left, overflow="ellipsis")


def widths(cells: Sequence[Sequence[Text]], columns: Sequence[str]) -> list[int]:
    """Returns the width of each column."""
    return [max(len(name), *(row[index].cell_len for row in cells)) for index, name in enumerate(columns)]


def print_fields(fields: Mapping[str, object]) -> None:
    """Prints names and values, one per line, without empty values."""
    shown = {name: value for name, value in fields.items() if value not in ("", None, [], {})}
    width = max(map(len, shown), default=0) + 2
    for name, value in shown.items():
        line = Text(f"{name:<{width}}", style="cyan")
        line.append(value if isinstance(value, Text) else Text(str(value), style="default"))
        console().print(line, soft_wrap=True)


def console() -> Console:
    """Returns standard output, wider than a pipe's default, so that nothing is cut in a file."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(out.width, 240))


def moment(value: Timestamp | None) -> datetime | None:
    """Converts a time to this machine's zone; returns None if it is not set."""
    if value is None or not (value.seconds or value.nanos):
        return None
    return datetime.fromtimestamp(value.seconds + value.nanos / 1e9).astimezone()


def is_since(value: Timestamp, seconds: float | None) -> bool:
    """Whether a time is within the last `seconds`; None means any time."""
    return seconds is None or value.seconds >= time.time() - seconds


def clock(value: Timestamp | None) -> str:
    """Formats a time with its zone."""
    when = moment(value)
    return f"{when:%Y-%m-%d %H:%M:%S %Z}" if when else ""


def brief(value: Timestamp | None) -> str:
    """Formats a time for a narrow column: `17:04:05 UTC` today, `21 Nov 17:04 UTC` this year."""
    when = moment(value)
    if when is None:
        return ""
    now = datetime.now(when.tzinfo)
    if when.date() == now.date():
        return f"{when:%H:%M:%S %Z}"
    return f"{when:%d %b %H:%M %Z}" if when.year == now.year else f"{when:%Y-%m-%d %Z}"
