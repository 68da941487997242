"""Failures for a person at a terminal: what is wrong, where, and what to do next."""

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import grpc
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from parley_client.errors import CallError

NEXT_STEP = {
    "INVALID_FIELD": "Correct the field and try again; `--help` describes the options.",
    "INVALID_FORM": "Correct the form's YAML where the message says.",
    "INVALID_TOKEN": "Is this the PARLEY_HOME of the running stack, which makes the token? `parley doctor` checks.",
    "TENANT_NOT_ALLOWED": "Choose another tenant with --tenant.",
    "TENANT_NOT_FOUND": "Choose an existing tenant, such as `demo`, or make it with `parley tenants create`.",
    "BOT_NOT_FOUND": "`parley bots list` shows what there is.",
    "CHANNEL_NOT_FOUND": "`parley channels list` shows what there is.",
    "MESSAGE_NOT_FOUND": "`parley messages list` shows the latest ones.",
    "RULE_NOT_FOUND": "`parley limits show` shows what there is.",
    "API_KEY_NOT_FOUND": "`parley keys list` shows what there is.",
    "FORM_NOT_FOUND": "The built-in form is `water-order`; give one of your own with --form-file.",
    "ALREADY_EXISTS": "Choose another id, or use the `update` command.",
    "WRONG_STATE": "`parley messages show` shows its state; only FAILED and TERMINAL messages can be retried.",
    "BOT_DISABLED": "`parley bots enable` lets it answer again.",
    "CHANNEL_DISABLED": "`parley channels enable` opens it again.",
    "IN_USE": "First delete or change what uses it.",
    "LIMIT_EXCEEDED": "Wait, or raise the limit with `parley limits set`.",
    "STORAGE_UNAVAILABLE": "`parley status` shows whether the stores run.",
    "MODEL_UNAVAILABLE": "`parley doctor` checks the model's endpoint.",
    "MODEL_REJECTED": "Check OPENAI_API_KEY and OPENAI_BASE_URL; `parley doctor` checks the endpoint.",
    "STILL_WORKING": "The turn goes on; `parley messages show` has the reply once it is there.",
    "INTERNAL": "`parley logs` shows what the service logged.",
}


AS_JSON = "parley_cli.as_json"
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Fault(Exception):
    """A failure in one or two lines: what is wrong, and what to do next."""

    def __init__(self, message: str, hint: str = "", details: Mapping[str, Any] = NOTHING) -> None:
        """`details` is what `--json` prints in addition."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details)


class Commands(TyperGroup):
    """Commands that print failures to standard error: in words, or with `--json` as one JSON document."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        ctx.meta[AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        as_json = ctx.meta[AS_JSON]
        try:
            return super().invoke(ctx)
        except CallError as error:
            print_fault(explain(error), as_json=as_json)
        except Fault as fault:
            print_fault(fault, as_json=as_json)
        except TyperException as error:  # the command line is wrong
            if not as_json:
                raise
            print_fault(Fault(error.format_message(), "`--help` describes the options."), as_json=True)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
        raise typer.Exit(1)


def explain(error: CallError) -> Fault:
    """Describes a failed call in words."""
    lines = [f"{error.message} [{error.reason or error.code.name}]"]
    fields = (f"{name}: {description}" for name, description in error.fields)
    lines += [f"  {line}" for line in fields if line not in error.message]
    if error.retry_after is not None:
        lines.append(f"  Try again in {error.retry_after:g} s.")
    hint = NEXT_STEP.get(error.reason, "")
    if not error.reason and error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        hint = "`parley status` shows which service is away."
    details = {
        "message": error.message,
        "code": error.code.name,
        "reason": error.reason,
        "fields": [{"field": name, "description": description} for name, description in error.fields],
        "retry_after_seconds": error.retry_after,
    }
    return Fault("\n".join(lines), hint, details)


def print_fault(fault: Fault, *, as_json: bool = False) -> None:
    """Prints a failure to standard error."""
    if as_json:
        document = {"error": {"message": fault.message} | fault.details | {"hint": fault.hint}}
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2), err=True)
        return
    typer.secho(f"error: {fault.message}", err=True, fg="red")
    if fault.hint:
        typer.echo(fault.hint, err=True)
