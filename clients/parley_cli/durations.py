"""Durations as people write them: `90s`, `5m`, `24h`, `30d`, `1h30m`; a bare number is in seconds."""

import re
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
NAMES = {"d": "day", "h": "h", "m": "min", "s": "s"}
PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|m|s)")
METAVAR = "DURATION"


def parse(text: str) -> float:
    """Returns seconds. Raises `typer.BadParameter` for anything that is not a duration."""
    written = text.strip().lower().replace(" ", "")
    try:
        return finite(float(written))
    except ValueError:
        pass
    parts = PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise typer.BadParameter(f"{text!r} is no length of time; write 90s, 5m, 24h, 30d or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def finite(seconds: float) -> float:
    """Returns the number, unless nothing lasts that long."""
    if not 0 <= seconds < 1e10:
        raise typer.BadParameter(f"{seconds:g} s is no length of time")
    return seconds


def format_seconds(seconds: float) -> str:
    """Returns `45 s`, `5 min`, `1 h 30 min` or `30 days`: the two largest units that are not zero."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds else "0 s"
    left, parts = round(seconds), []
    for unit, length in SECONDS.items():
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {NAMES[unit]}{'s' if unit == 'd' and count > 1 else ''}")
    return " ".join(parts[:2])


def format_duration(value: Duration) -> str:
    """Returns a contract's duration as `format_seconds` does."""
    return format_seconds(value.seconds + value.nanos / 1e9)


def to_proto(seconds: float) -> Duration:
    """Converts seconds to a contract's duration, to the millisecond."""
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


Since = Annotated[
    float | None,
    typer.Option("--since", parser=parse, metavar=METAVAR, help="Only what happened in the last 10m, 2h, 7d, ..."),
]
