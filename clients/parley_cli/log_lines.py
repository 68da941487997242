"""Reads the processes' logs: which lines there are since when, and how a person sees them."""

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
TOLD = frozenset({"at", "level", "event", "service", "logger", "frames"})
"""What a line of ours says elsewhere, or only with `--json`."""
MARKS = {" FATAL: ": "error", " PANIC: ": "critical", " ERROR: ": "error", " WARNING: ": "warning"}
"""How PostgreSQL marks its lines."""
REDIS = re.compile(r"\d+:[A-Z] (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) ")
LARGEST = 20_000_000
"""Bytes of a log's end that are read."""


@dataclass(frozen=True, order=True)
class LogLine:
    """One line. What is not ours (PostgreSQL, Redis, a traceback) has the time of the line before it."""

    at: datetime
    process: str
    level: str = field(compare=False)
    event: str = field(compare=False)
    fields: dict[str, Any] = field(compare=False, default_factory=dict)


LONG_AGO = datetime.fromtimestamp(0, UTC)


def parse(process: str, text: str, before: datetime = LONG_AGO) -> LogLine:
    """A line of a log; `before` is the time of the one before it."""
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
    """The time that a line of PostgreSQL (in UTC) or Redis (in this machine's zone) begins with."""
    with suppress(ValueError):
        return datetime.strptime(text[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    redis = REDIS.match(text)
    return datetime.strptime(redis[1], "%d %b %Y %H:%M:%S.%f").astimezone() if redis else None


def wanted(line: LogLine, since: datetime, level: str) -> bool:
    """Whether it is new enough and bad enough."""
    rank = LEVELS.index(line.level) if line.level in LEVELS else LEVELS.index("info")
    return line.at >= since and rank >= LEVELS.index(level)


class Read(NamedTuple):
    """How far a log has been read: the offset, and the time of the last line."""

    offset: int = 0
    last: datetime = LONG_AGO


def read(process: str, path: Path, before: Read) -> tuple[list[LogLine], Read]:
    """The whole lines after `before`; a log that was begun anew meanwhile is read from its start."""
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


def together(logs: Sequence[Sequence[LogLine]]) -> Iterator[LogLine]:
    """All lines of several logs, by time."""
    return merge(*logs, key=lambda line: line.at)


def shown(line: LogLine, width: int) -> Text:
    """For a person: time, process, level, what happened, and the rest."""
    when = f"{line.at.astimezone():%H:%M:%S.%f}"[:-3] if line.at > LONG_AGO else "-" * 12
    text = Text(when, style="dim")
    text.append(f" {line.process:<{width}} ", style="cyan")
    text.append(line.event, style=STYLES.get(line.level, ""))
    for name, value in line.fields.items():
        if name not in TOLD:
            text.append(f" {name}=", style="dim")
            text.append(str(value), style="dim")
    return text


def as_dict(line: LogLine) -> dict[str, Any]:
    """For a program."""
    when = line.at.isoformat() if line.at > LONG_AGO else None
    return line.fields | {"process": line.process, "at": when, "level": line.level, "event": line.event}
