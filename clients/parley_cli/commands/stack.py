"""`parley up` and `parley status`."""

import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from parley_cli import local
from parley_cli.output import Json, print_json, print_table


def up(
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Do not make the demo tenant.")] = False,
    as_json: Json = False,
) -> None:
    """Start the whole stack in the foreground; Ctrl-C stops it."""
    options = [*(["--no-demo"] if no_demo else []), *(["--json"] if as_json else [])]
    command = [sys.executable, "-m", "deploy.local", "up", *options]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - the stack takes this process's place, and its signals


def status(as_json: Json = False) -> None:
    """Show every process of the stack: address, process id, health."""
    stack = local.stack()
    processes = stack["processes"]
    if as_json:
        print_json(stack)
        return
    rows = [
        (
            process["name"],
            process["address"],
            process["pid"] or "-",
            Text("healthy", style="green") if process["healthy"] else Text("unhealthy", style="red"),
            process["restarts"] or "",
        )
        for process in processes
    ]
    print_table(("name", "address", "pid", "health", "restarts"), rows)
    typer.echo(f"\nstate: {stack['state']}, home: {stack['home']}")
    for name, url in stack["urls"].items():
        typer.echo(f"{name}: {url}")
