"""The `parley` command and all its subcommands."""

from typing import Annotated

import typer

from parley_cli import __version__
from parley_cli.commands import (
    bots,
    channels,
    chat,
    deliveries,
    doctor,
    keys,
    limits,
    logs,
    messages,
    orders,
    send,
    stack,
    tenants,
    trace,
)
from parley_cli.faults import Commands

app = typer.Typer(
    name="parley",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("up")(stack.up)
app.command("status")(stack.status)
app.command("chat")(chat.chat)
app.command("send")(send.send)
app.command("trace")(trace.trace)
app.command("logs")(logs.logs)
app.command("doctor")(doctor.doctor)
app.add_typer(messages.app, name="messages")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(orders.app, name="orders")
app.add_typer(channels.app, name="channels")
app.add_typer(bots.app, name="bots")
app.add_typer(limits.app, name="limits")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")


def print_version(wanted: bool) -> None:
    """Prints the version and exits."""
    if wanted:
        typer.echo(f"parley {__version__}")
        raise typer.Exit


@app.callback()
def parley(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run the local stack, talk to it, and see what happens in it. Start it with `make run` or `parley up`."""


def main() -> int:
    """Runs the command that the process was started with."""
    app()
    return 0


if __name__ == "__main__":
    main()
