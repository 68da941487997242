"""What `parley up` prints once the stack runs: where everything is, and what to try first."""

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.home import Home

FIRST_MESSAGE = {
    "type": "from_client",
    "text": "Здравствуйте",
    "transport": "telegram",
    "client_id": 1001,
    "dialog_id": 1,
    "channel_id": 1,
    "client": {"id": 1001, "name": "Айбек", "phone": ""},
    "hook_type": "inbox",
    "event_time": "2026-11-21T08:00:00Z",
}


def welcome(stack: Mapping[str, Any], demo: Mapping[str, Any], seconds: float, console: Console | None = None) -> None:
    """Prints it. Commands have lines of their own, unwrapped and ready to be copied."""
    out = console or Console(highlight=False, soft_wrap=True)
    out.print(Text(f"\nParley is up after {seconds:.1f} s.", style="bold green"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, what in (
        ("edge", "webhooks and /v1/chat"),
        ("console", "operators"),
        ("simulator", "providers and model"),
    ):
        if name in stack["urls"]:
            table.add_row(Text(f"  {name}", style="cyan"), stack["urls"][name], Text(what, style="dim"))
    for name in ("context", "dialog", "limits", "delivery", "telemetry", "otlp"):
        if name in stack["addresses"]:
            table.add_row(Text(f"  {name}", style="cyan"), stack["addresses"][name], Text("gRPC", style="dim"))
    table.add_row(Text("  state", style="cyan"), stack["home"], Text("logs, keys, data", style="dim"))
    out.print(table)
    for title, command in commands(stack, demo):
        out.print(Text(f"\n{title}", style="bold"))
        out.print(Text(command))
    out.print(Text("\nCtrl-C stops everything; the data stays.\n", style="dim"))


def commands(stack: Mapping[str, Any], demo: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what to try, and the command for it, which works in any folder and as often as one likes."""
    edge = stack["urls"].get("edge")
    parley = parley_of(stack)
    tries = [("Order water in this terminal's neighbour:", f"{parley} chat --bot water")]
    if edge and "chat2desk" in demo:
        url = f"{edge}/webhooks/chat2desk/{demo['chat2desk']['channel_id']}?secret={demo['chat2desk']['secret']}"
        # The time, so that it is no duplicate of the one that an earlier start has printed, or a page has shown.
        body = json.dumps({"message_id": int(time.time())} | FIRST_MESSAGE, ensure_ascii=False)
        tries.append(
            (
                "Or be Chat2Desk, and send a person's message to the webhook:",
                f"curl -sS -X POST '{url}' -H 'content-type: application/json' -d '{body}'",
            )
        )
    if edge and "api" in demo:
        body = json.dumps({"telegram_id": 42, "message": "How do I raise sales of a product card?"})
        tries.append(
            (
                "Or ask the assistant by the chat API:",
                f"curl -sS -X POST '{edge}/v1/chat/send' -H 'X-API-KEY: {demo['api']['key']}' "
                f"-H 'content-type: application/json' -d '{body}'",
            )
        )
    newest = f"{parley} messages list --count 1 --json | {NEWEST}"
    tries.append(("Then see where the newest message's time went:", f'{parley} trace "$({newest})"'))
    return tries


NEWEST = """python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])'"""


def parley_of(stack: Mapping[str, Any]) -> str:
    """Returns the command line of this stack for a shell."""
    parley = shlex.quote(str(Path(sys.executable).with_name("parley")))
    usual = stack["home"] == str(Home.of({}).path)
    return parley if usual else f"PARLEY_HOME={shlex.quote(stack['home'])} {parley}"
