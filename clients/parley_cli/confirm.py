"""Asks before something that cannot be undone."""

import sys

import typer

from parley_cli.faults import Fault


def confirm(question: str, *, yes: bool) -> None:
    """Returns if the person agrees. Raises `typer.Abort` if not, and `Fault` if there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Fault(question.rstrip("?") + ": there is no terminal to ask at", "Give --yes to confirm.")
    typer.confirm(question, abort=True, err=True)
