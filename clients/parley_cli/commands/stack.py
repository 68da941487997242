"""`parley up` and `parley status`: start the stack and show its state."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from parley_cli import local
from parley_cli.output import Json, Tenant, console, print_json, print_table
from parley_cli.queues import backlog, queues_of
from parley_cli.troubles import trouble


def up(
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Do not create the demo tenant.")] = False,
    as_json: Json = False,
) -> None:
    """Start the whole stack in the foreground. Ctrl-C stops it."""
    options = [*(["--no-demo"] if no_demo else []), *(["--json"] if as_json else [])]
    command = [sys.executable, "-P", "-m", "deploy.local", "up", *options]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - the stack takes this process's place, and its signals


def status(tenant: Tenant = "", as_json: Json = False) -> None:
    """Show every process of the stack with its address, process id and health, and what waits or is dead.

    Exits with 1 if a process is unhealthy.
    """
    stack = local.stack()
    queues = {} if stack["state"] in ("starting", "stopping") else queues_of(stack, tenant)
    if as_json:
        print_json(stack | {"queues": queues})
    else:
        show_status(stack, queues)
    if stack["state"] == "degraded":
        raise typer.Exit(1)


def show_status(stack: Mapping[str, Any], queues: Mapping[str, Any]) -> None:
    rows = [
        (
            process["name"],
            process["address"],
            process["pid"] or "-",
            Text("healthy", style="green") if process["healthy"] else Text("unhealthy", style="red"),
            process["restarts"] or "",
        )
        for process in stack["processes"]
    ]
    print_table(("name", "address", "pid", "health", "restarts"), rows)
    out = console()
    style = {"ready": "green", "degraded": "red"}.get(stack["state"], "yellow")
    out.print(Text("\nstate: ").append(stack["state"], style=style).append(f", home: {stack['home']}"), soft_wrap=True)
    for process in stack["processes"]:
        if sentence := trouble(process):
            out.print(Text(sentence, style="yellow" if process["healthy"] else "red"), soft_wrap=True)
    for name, url in stack["urls"].items():
        typer.echo(f"{name}: {url}")
    for sentence, todo in backlog(queues):
        out.print(Text(sentence, style="yellow").append(f"  {todo}", style="dim"), soft_wrap=True)
