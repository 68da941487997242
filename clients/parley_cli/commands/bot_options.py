"""The options that create and change a bot."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from parley.dialog.v1 import bot_pb2

from parley_cli.durations import METAVAR, parse, to_proto
from parley_cli.faults import Fault
from parley_client.errors import CallError

DEFAULT_FORM = "water-order"

BotId = Annotated[str, typer.Argument(help="The bot's id.")]
Name = Annotated[str | None, typer.Option("--name", help="The name that people see.")]
Locale = Annotated[str | None, typer.Option(help="The language of its texts, such as ru or en.")]
Form = Annotated[
    str | None, typer.Option("--form", help=f"form: a built-in form ({DEFAULT_FORM}) or a YAML file of your own.")
]
FormFile = Annotated[Path | None, typer.Option("--form-file", help="form: a YAML file of your own with any name.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="assistant: the model's instructions.")]
PromptFile = Annotated[Path | None, typer.Option("--prompt-file", help="assistant: the same, from a file.")]
Model = Annotated[str | None, typer.Option("--model", help="assistant: the model's name.")]
History = Annotated[int | None, typer.Option("--history", help="assistant: how many earlier messages it sees.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="assistant: the longest answer, in tokens.")]
ModelTimeout = Annotated[
    float | None,
    typer.Option(
        "--model-timeout", parser=parse, metavar=METAVAR, help="assistant: time for a model call, such as 30s."
    ),
]
Start = Annotated[str | None, typer.Option("--start-message", help="The answer to /start.")]
Help = Annotated[str | None, typer.Option("--help-message", help="The answer to /help.")]
Error = Annotated[str | None, typer.Option("--error-message", help="What people get when a turn fails.")]
Limit = Annotated[str | None, typer.Option("--limit-message", help="What people get when they are over a limit.")]
DialogTtl = Annotated[
    float | None,
    typer.Option(
        "--dialog-ttl", parser=parse, metavar=METAVAR, help="How long a silent dialog is remembered, such as 24h."
    ),
]
Debounce = Annotated[
    float | None,
    typer.Option(
        "--debounce", parser=parse, metavar=METAVAR, help="How long to wait for further messages, such as 2s."
    ),
]
AnswerWithin = Annotated[
    float | None,
    typer.Option(
        "--answer-within",
        parser=parse,
        metavar=METAVAR,
        help="How long people wait while the model is away, such as 60s, before they get the error message.",
    ),
]
AnswerLate = Annotated[
    bool | None, typer.Option("--answer-late/--no-answer-late", help="Answer even after that, within a day.")
]
Owner = Annotated[str | None, typer.Option("--owner", help="Who is responsible for it.")]

PLAIN = {
    "name": "display_name",
    "locale": "locale",
    "start_message": "start_message",
    "help_message": "help_message",
    "error_message": "error_message",
    "limit_message": "limit_message",
    "owner": "owner",
    "answer_late": "answer_late",
}
DURATIONS = {"dialog_ttl": "dialog_ttl", "debounce": "debounce", "answer_within": "answer_within"}

Setter = Callable[[bot_pb2.Bot, Any], None]


def set_form(bot: bot_pb2.Bot, form: str) -> None:
    """Sets a form by its id, or by its file if the name has a dot or a slash, which no id has."""
    if "." in form or "/" in form:
        bot.form.definition_yaml = read(Path(form), "--form")
    else:
        bot.form.form_id = form


def set_assistant(field: str) -> Setter:
    return lambda bot, value: setattr(bot.assistant, field, value)


OF_FLOW: dict[str, tuple[str, Setter]] = {
    "form": ("form", set_form),
    "form_file": ("form", lambda bot, path: setattr(bot.form, "definition_yaml", read(path, "--form-file"))),
    "prompt": ("assistant", set_assistant("system_prompt")),
    "prompt_file": (
        "assistant",
        lambda bot, path: setattr(bot.assistant, "system_prompt", read(path, "--prompt-file")),
    ),
    "model": ("assistant", set_assistant("model")),
    "history": ("assistant", set_assistant("history_messages")),
    "max_tokens": ("assistant", set_assistant("max_output_tokens")),
    "model_timeout": ("assistant", lambda bot, value: bot.assistant.timeout.CopyFrom(to_proto(value))),
}


def apply(bot: bot_pb2.Bot, options: dict[str, Any]) -> list[str]:
    """Puts the given options into the bot and returns their update mask. Raises `Fault`."""
    mask = set()
    given = {name: value for name, value in options.items() if value is not None}
    for option, field in PLAIN.items():
        if option in given:
            setattr(bot, field, given[option])
            mask.add(field)
    for option, field in DURATIONS.items():
        if option in given:
            getattr(bot, field).CopyFrom(to_proto(given[option]))
            mask.add(field)
    for option, (flow, put) in OF_FLOW.items():
        if option in given:
            if bot.WhichOneof("flow") != flow:
                raise Fault(f"--{option.replace('_', '-')} is for bots of flow {flow}")
            put(bot, given[option])
            mask.add(flow)
    return sorted(mask)


def read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Fault(f"{option} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Fault(f"{option} {path} is not text in UTF-8: {error}") from error


@contextmanager
def name_form_file(form: str | None, form_file: Path | None) -> Iterator[None]:
    """Adds the name of the form's file to an error; the service names the key, the line and the reason."""
    try:
        yield
    except CallError as error:
        if error.reason == "INVALID_FORM" and (form_file or form):
            error.message = f"{form_file or form}: {error.message}"
        raise
