"""The options that make and change a bot."""

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
Name = Annotated[str | None, typer.Option("--name", help="Name that people see.")]
Locale = Annotated[str | None, typer.Option(help="Language of its texts, for example ru or en.")]
Form = Annotated[
    str | None, typer.Option("--form", help=f"form: one that comes along ({DEFAULT_FORM}), or a YAML file of your own.")
]
FormFile = Annotated[Path | None, typer.Option("--form-file", help="form: a YAML file of your own, whatever its name.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="assistant: what the model is told.")]
PromptFile = Annotated[Path | None, typer.Option("--prompt-file", help="assistant: the same, from a file.")]
Model = Annotated[str | None, typer.Option("--model", help="assistant: the model's name.")]
History = Annotated[int | None, typer.Option("--history", help="assistant: how many messages it sees.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="assistant: the longest answer.")]
ModelTimeout = Annotated[
    float | None,
    typer.Option("--model-timeout", parser=parse, metavar=METAVAR, help="assistant: time for a model call, as 30s."),
]
Start = Annotated[str | None, typer.Option("--start-message", help="Answer to /start.")]
Help = Annotated[str | None, typer.Option("--help-message", help="Answer to /help.")]
Error = Annotated[str | None, typer.Option("--error-message", help="What a person gets when a turn fails.")]
Limit = Annotated[str | None, typer.Option("--limit-message", help="What a person gets over a limit.")]
DialogTtl = Annotated[
    float | None,
    typer.Option("--dialog-ttl", parser=parse, metavar=METAVAR, help="How long a silent dialog is remembered, as 24h."),
]
Debounce = Annotated[
    float | None,
    typer.Option("--debounce", parser=parse, metavar=METAVAR, help="How long to wait for further messages, as 2s."),
]
AnswerWithin = Annotated[
    float | None,
    typer.Option(
        "--answer-within",
        parser=parse,
        metavar=METAVAR,
        help="How long a person waits while the model is away, as 60s; then they get the error message.",
    ),
]
AnswerLate = Annotated[
    bool | None, typer.Option("--answer-late/--no-answer-late", help="Answer also after that, within a day.")
]
Owner = Annotated[str | None, typer.Option("--owner", help="Who answers for it.")]

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
    """A form by its id; by its file when it looks like one, as no id has a dot or a slash."""
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
    """Put the options that were given into the bot; the update mask for them. Raises `Fault`."""
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
def naming(form: str | None, form_file: Path | None) -> Iterator[None]:
    """What is wrong with a form of one's own is told with its file; the service names key, line and reason."""
    try:
        yield
    except CallError as error:
        if error.reason == "INVALID_FORM" and (form_file or form):
            error.message = f"{form_file or form}: {error.message}"
        raise
