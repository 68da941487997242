"""Reads the processes' logs and formats their lines."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from parley_cli.options import Level

LEVELS = tuple(level.value for level in Level)
STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
PRINTED = frozenset({"at", "level", "event", "service", "logger", "frames"})
"""Fields that a line shows in another place, or only with `--json`."""
MARKS = {" FATAL: ": "error", " PANIC: ": "critical", " ERROR: ": "error", " WARNING: ": "warning"}
"""How PostgreSQL marks the level of its lines."""
REDIS = re.compile(r"\d+:[A-Z] (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) ")
LARGEST = 20_000_000
"""How many bytes of a log are read, from its end."""


@dataclass(frozen=True, order=True)
class LogLine:
    """One line. A line without a time of its own, such as one of a traceback, has the time of the line before."""

    at: datetime
    process: str
    level: str = field(compare=False)
    event: str = field(compare=False)
    fields: dict[str, Any] = field(compare=False, default_factory=dict)


LONG_AGO = datetime.fromtimestamp(0, UTC)


def parse(process: str, text: str, before: datetime = LONG_AGO) -> LogLine:
    """Parses a line of a log; `before` is the time of the line before it."""
    if text.startswith("{"):
        try:
            known = json.loads(text)
            at = datetime.fromisoformat(known["at"])
            return LogLine(at, process, str(known.get("level", "info")), str(known.get("event", "")), known)
        except (ValueError, KeyError, TypeError, AttributeError):
            return LogLine(before, process, "info", text)
    for mark, level in MARKS.items():
        if mark in text:
            return LogLine(foreign_time(text) or before, process, level, text)
    return LogLine(foreign_time(text) or before, process, "info", text)


def foreign_time(text: str) -> datetime | None:
    """Returns the time at the beginning of a line of PostgreSQL (in UTC) or Redis (in this machine's zone)."""
    with suppress(ValueError):
        return datetime.strptime(text[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    redis = REDIS.match(text)
    return datetime.strptime(redis[1], "%d %b %Y %H:%M:%S.%f").astimezone() if redis else None


def wanted(line: LogLine, since: datetime, level: str) -> bool:
    """Whether the line is recent and severe enough."""
    rank = LEVELS.index(line.level) if line.level in LEVELS else LEVELS.index("info")
    return line.at >= since and rank >= LEVELS.index(level)


class Read(NamedTuple):
    """How far a log has been read: its offset and the time of the last line."""

    offset: int = 0
    last: datetime = LONG_AGO


def read(process: str, path: Path, before: Read) -> tuple[list[LogLine], Read]:
    """Returns the complete lines after `before`. A log that has been started anew is read from its beginning."""
    offset = before.offset
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 0 if size < offset else max(offset, size - LARGEST)
            file.seek(start)
            chunk = file.read()
    except FileNotFoundError:
        return [], Read()
    whole = chunk[: chunk.rfind(b"\n") + 1]
    lines, last = [], before.last
    for text in whole.decode(errors="replace").splitlines():
        if text.strip():
            lines.append(parse(process, text, last))
            last = lines[-1].at
    return lines, Read(start + len(whole), last)


def by_time(logs: Sequence[Sequence[LogLine]]) -> Iterator[LogLine]:
    """Merges the lines of several logs by time."""
    return merge(*logs, key=lambda line: line.at)


def format_line(line: LogLine, width: int) -> Text:
    """Formats a line for a person: time, process, what happened, and the other fields."""
    when = f"{line.at.astimezone():%H:%M:%S.%f}"[:-3] if line.at > LONG_AGO else "-" * 12
    text = Text(when, style="dim")
    text.append(f" {line.process:<{width}} ", style="cyan")
    text.append(line.event, style=STYLES.get(line.level, ""))
    for name, value in line.fields.items():
        if name not in PRINTED:
            text.append(f" {name}=", style="dim")
            text.append(str(value), style="dim")
    return text


def as_dict(line: LogLine) -> dict[str, Any]:
    """Returns a line for a program."""
    when = line.at.isoformat() if line.at > LONG_AGO else None
    return line.fields | {"process": line.process, "at": when, "level": line.level, "event": line.event}
