"""`parley`: all commands."""

import typer

from parley_cli.commands import bots, channels, chat, doctor, keys, limits, messages, orders, send, stack, trace
from parley_cli.faults import Commands

app = typer.Typer(
    name="parley",
    cls=Commands,
    help="Talk to the local stack, and see what goes on in it. Start it with `make run` or `parley up`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("up")(stack.up)
app.command("status")(stack.status)
app.command("chat")(chat.chat)
app.command("send")(send.send)
app.command("trace")(trace.trace)
app.command("doctor")(doctor.doctor)
app.add_typer(messages.app, name="messages")
app.add_typer(orders.app, name="orders")
app.add_typer(channels.app, name="channels")
app.add_typer(bots.app, name="bots")
app.add_typer(limits.app, name="limits")
app.add_typer(keys.app, name="keys")


def main() -> int:
    """Run the command that the process was started with."""
    app()
    return 0


if __name__ == "__main__":
    main()
