"""Shows warnings and errors of all processes to the person who started the stack, one line each."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deploy.local.server import tail

COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
POLL = 1.0
QUIET = 30.0
"""Seconds in which the same sentence of a process is shown only once."""
LARGEST = 20 * 1024 * 1024
"""Bytes after which a log is renamed to `.1` and begun anew."""
LINES_AT_ONCE = 20
"""If one process has more new lines than this, only their number is shown."""


class Terminal:
    """Prints to standard error, so that machines can read standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._colours: dict[str, str] = {}

    def report(self, name: str, level: str, sentence: str) -> None:
        """Prints one line: the process, the level, and the sentence."""
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        line = Text(f"{name:>10} ", style=colour)
        line.append(f"{level} " if level in LEVELS else "", style=LEVELS.get(level, ""))
        line.append(sentence)
        self.console.print(line)


class LogView:
    """Follows the logs from their present end, and reports warnings and errors."""

    def __init__(self, logs: Mapping[str, Path], terminal: Terminal) -> None:
        self._logs = dict(logs)
        self._terminal = terminal
        self._read = {name: size_of(path) for name, path in logs.items()}
        self._said: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Follows until it is cancelled."""
        while True:
            await asyncio.sleep(POLL)
            self.step()

    def step(self) -> None:
        """Reads and reports what is new, and rotates logs that have grown too large."""
        for name, path in self._logs.items():
            told = [line for text in self._new_lines(name, path) if (line := severe(text))]
            for level, sentence in told[:LINES_AT_ONCE]:
                if self._is_news(name, sentence):
                    self._terminal.report(name, level, sentence)
            if len(told) > LINES_AT_ONCE:
                rest = len(told) - LINES_AT_ONCE
                self._terminal.report(name, "warning", f"and {rest} lines more (see {path})")
            if self._read[name] > LARGEST:
                shutil.copyfile(path, path.with_name(f"{path.name}.1"))
                os.truncate(path, 0)  # its writer appends, and goes on at the new end
                self._read[name] = 0

    def _is_news(self, name: str, sentence: str) -> bool:
        """Tells whether the same was not said a moment ago."""
        now = time.monotonic()
        said = self._said.get((name, sentence), -QUIET)
        if now - said < QUIET:
            return False
        self._said = {key: at for key, at in self._said.items() if now - at < QUIET} | {(name, sentence): now}
        return True

    def _new_lines(self, name: str, path: Path) -> list[str]:
        size = size_of(path)
        if size < self._read[name]:
            self._read[name] = 0
        if size == self._read[name]:
            return []
        with path.open("rb") as file:
            file.seek(self._read[name])
            chunk = file.read(LARGEST)
        whole = chunk[: chunk.rfind(b"\n") + 1]  # the rest is read when its line is whole
        self._read[name] += len(whole)
        return whole.decode(errors="replace").splitlines()


def severe(line: str) -> tuple[str, str] | None:
    """Returns the level and sentence of a warning or an error in a log; None for other lines.

    Services write JSON; PostgreSQL marks a line with `ERROR:` and the like, Redis with `#`; an uncaught failure of
    Python ends with its name.
    """
    if line.startswith("{"):
        return severe_json(line)
    for mark, level in ((" FATAL: ", "error"), (" PANIC: ", "error"), (" WARNING: ", "warning")):
        if mark in line:
            return level, line.split(mark, 1)[1].strip()
    if line[:1].isalpha() and ("Error: " in line or "Exception: " in line) and not line.startswith("WARNING"):
        return "error", line
    return None


def severe_json(line: str) -> tuple[str, str] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    level = str(event.get("level", "")) if isinstance(event, dict) else ""
    if level not in LEVELS:
        return None
    about = {key: value for key, value in event.items() if key in ("error", "trace_id", "method", "reason")}
    details = " ".join(f"{key}={value}" for key, value in about.items())
    return level, f"{event.get('event', '')} {details}".strip()


def last_words(path: Path, lines: int = 15) -> str:
    """Returns why a process ended: the last error in its log, or else its last lines."""
    found = tail(path, lines)
    errors = [told[1] for line in found.splitlines() if (told := severe(line)) and told[0] != "warning"]
    return errors[-1] if errors else found


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
