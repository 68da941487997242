"""The options that create and change a bot."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parley.dialog.v1 import bot_pb2

from parley_cli.durations import to_proto
from parley_cli.faults import Fault
from parley_cli.options import Options, duration, option
from parley_client.errors import CallError

DEFAULT_FORM = "water-order"

OPTIONS: Options = {
    "name": option(str, "--name", "The name that people see."),
    "locale": option(str, "--locale", "The language of its texts, such as ru or en."),
    "form": option(str, "--form", f"form: a built-in form ({DEFAULT_FORM}) or a YAML file of your own."),
    "form_file": option(Path, "--form-file", "form: a YAML file of your own with any name."),
    "prompt": option(str, "--prompt", "assistant: the model's instructions."),
    "prompt_file": option(Path, "--prompt-file", "assistant: the same, from a file."),
    "model": option(str, "--model", "assistant: the model's name."),
    "history": option(int, "--history", "assistant: how many earlier messages it sees."),
    "max_tokens": option(int, "--max-tokens", "assistant: the longest answer, in tokens."),
    "model_timeout": duration("--model-timeout", "assistant: time for a model call, such as 30s."),
    "start_message": option(str, "--start-message", "The answer to /start."),
    "help_message": option(str, "--help-message", "The answer to /help."),
    "error_message": option(str, "--error-message", "What people get when a turn fails."),
    "limit_message": option(str, "--limit-message", "What people get when they are over a limit."),
    "dialog_ttl": duration("--dialog-ttl", "How long a silent dialog is remembered, such as 24h."),
    "debounce": duration("--debounce", "How long to wait for further messages, such as 2s."),
    "answer_within": duration(
        "--answer-within",
        "How long people wait while the model is away, such as 60s, before they get the error message.",
    ),
    "answer_late": option(bool, "--answer-late/--no-answer-late", "Answer even after that, within a day."),
    "owner": option(str, "--owner", "Who is responsible for it."),
}
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
DURATIONS = ("dialog_ttl", "debounce", "answer_within")

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


def apply(bot: bot_pb2.Bot, given: Mapping[str, Any]) -> list[str]:
    """Puts the given options into the bot and returns their update mask. Raises `Fault`."""
    mask = set()
    for name, field in PLAIN.items():
        if name in given:
            setattr(bot, field, given[name])
            mask.add(field)
    for name in DURATIONS:
        if name in given:
            getattr(bot, name).CopyFrom(to_proto(given[name]))
            mask.add(name)
    for name, (flow, put) in OF_FLOW.items():
        if name in given:
            if bot.WhichOneof("flow") != flow:
                raise Fault(f"--{name.replace('_', '-')} is for bots of flow {flow}")
            put(bot, given[name])
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
def name_form_file(given: Mapping[str, Any]) -> Iterator[None]:
    """Adds the name of the form's file to an error; the service names the key, the line and the reason."""
    try:
        yield
    except CallError as error:
        file = given.get("form_file") or given.get("form")
        if error.reason == "INVALID_FORM" and file:
            error.message = f"{file}: {error.message}"
        raise
