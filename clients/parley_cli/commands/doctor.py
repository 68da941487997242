"""`parley doctor`: finds what is wrong on this machine and says what to do."""

import typer
from rich.text import Text

from parley_cli.checks import Finding, examine
from parley_cli.output import Json, console, print_json

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


def doctor(as_json: Json = False) -> None:
    """Check Python, settings, ports, services, databases, queues, the model, the clock, disk space and keys."""
    findings = examine()
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            show(finding)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def show(finding: Finding) -> None:
    mark, style = MARKS[finding.level]
    line = Text(f"{mark} ", style=style).append(f"{finding.name}: ", style="bold").append(finding.message)
    out = console()
    out.print(line)
    if finding.todo:
        out.print(Text(f"  {finding.todo}", style="dim"))
