"""Options that several commands share, and the choices that options offer."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from parley_cli import durations

Options = Mapping[str, Any]
"""Options by the name of their parameter."""


def option(kind: Any, flag: str, help_text: str, **more: Any) -> Any:
    """An option that may be left out."""
    return Annotated[kind | None, typer.Option(flag, help=help_text, **more)]


def duration(flag: str, help_text: str) -> Any:
    """An option that takes a duration, in seconds."""
    return option(float, flag, help_text, parser=durations.parse, metavar=durations.METAVAR)


def taking(options: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command these options. Its parameter `given` gets the values of those that were given, by name."""
    extra = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in options.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            taken = {name: values.pop(name) for name in options}
            command(given={name: value for name, value in taken.items() if value is not None}, **values)

        parameters: list[Parameter] = []
        for own in signature(command).parameters.values():
            parameters += extra if own.name == "given" else [own.replace(kind=Parameter.KEYWORD_ONLY)]
        vars(run)["__signature__"] = Signature(parameters)
        return run

    return decorate


class MessageState(StrEnum):
    """The states of a message."""

    received = "received"
    processing = "processing"
    completed = "completed"
    failed = "failed"
    terminal = "terminal"


class PartState(StrEnum):
    """The states of a part of a delivery."""

    pending = "pending"
    started = "started"
    sent = "sent"
    unknown = "unknown"
    dead = "dead"


class Flow(StrEnum):
    """The flows of this version."""

    form = "form"
    assistant = "assistant"


class Provider(StrEnum):
    """The providers of this version."""

    api = "api"
    chat2desk = "chat2desk"


class Mode(StrEnum):
    """How a provider's messages arrive."""

    webhook = "webhook"


class Scope(StrEnum):
    """What a key opens."""

    chat = "chat"
    service = "service"


class Level(StrEnum):
    """How severe a log line is."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"
