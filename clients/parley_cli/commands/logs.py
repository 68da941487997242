"""`parley logs`: shows what the stack's processes log."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from parley_cli import local
from parley_cli.durations import Since
from parley_cli.faults import Fault
from parley_cli.log_lines import LONG_AGO, LogLine, Read, as_dict, by_time, format_line, read, wanted
from parley_cli.options import Level
from parley_cli.output import Json, console, print_json

POLL = 0.3
"""Seconds between two looks at the growing logs."""


def logs(
    service: Annotated[str, typer.Argument(help="The process, as `parley status` names it; all by default.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new lines; Ctrl-C ends.")] = False,
    since: Since = None,
    level: Annotated[Level, typer.Option("--level", help="Only lines of this level or worse.")] = Level.info,
    trace: Annotated[str, typer.Option("--trace", help="Only lines of this trace.")] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=100_000, help="How many of the last lines.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what the processes have logged, in order of time, even while the stack is down.

    With --follow, --json prints one document per line.
    """
    files = log_files(service)
    start = datetime.now(UTC) - timedelta(seconds=since) if since is not None else LONG_AGO
    so_far: dict[str, Read] = {}

    def new() -> list[LogLine]:
        found = []
        for name, path in files.items():
            lines, so_far[name] = read(name, path, so_far.get(name, Read()))
            found.append([line for line in lines if fits(line, start, level.value, trace)])
        return list(by_time(found))

    first = new()
    first = first if since is not None else first[len(first) - min(count, len(first)) :]
    if as_json and not follow:
        print_json([as_dict(line) for line in first])
        return
    width = max(map(len, files))
    out = console()

    def show(lines: list[LogLine]) -> None:
        for line in lines:
            if as_json:
                typer.echo(json.dumps(as_dict(line), ensure_ascii=False))
            else:
                out.print(format_line(line, width), soft_wrap=True)

    show(first)
    try:
        while follow:
            time.sleep(POLL)
            show(new())
    except KeyboardInterrupt:
        return


def fits(line: LogLine, since: datetime, level: str, trace: str) -> bool:
    return wanted(line, since, level) and (not trace or line.fields.get("trace_id") == trace)


def log_files(service: str) -> dict[str, Path]:
    """Returns the logs by process. Raises `Fault` if there is none of that name."""
    folder = local.home() / "logs"
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not found:
        raise Fault(f"there are no logs in {folder}", "Start the stack with `make run`, or set PARLEY_HOME.")
    if not service:
        return found
    if service not in found:
        raise Fault(f"there is no log of {service!r}", f"Processes are {', '.join(found)}.")
    return {service: found[service]}
