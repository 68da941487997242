"""Asks before something is done that cannot be undone."""

import sys

import typer

from parley_cli.faults import Fault


def confirm(question: str, *, yes: bool) -> None:
    """Go on when the person agrees. Raises `Fault` where nobody can be asked, `typer.Abort` when they do not agree."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Fault(question.rstrip("?") + ": nobody is here to be asked", "Say --yes to do it.")
    typer.confirm(question, abort=True, err=True)
