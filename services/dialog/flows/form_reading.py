"""What a person means by a message, at a given place in a form."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.dialog.domain.flows import Inbound
from services.dialog.flows.form_slots import (
    Field,
    Reader,
    Value,
    looks_like_phone,
)
from services.dialog.flows.vocabulary import (
    LONGEST,
    MOST_WORDS,
    clean,
    tokens,
    vocabulary,
)

_SLASH = re.compile(r"/([A-Za-z_]+)(@\w+)?(\s|$)")
_SEPARATORS = re.compile(r"[\s:=,.;\-–—]+")
_SLASH_COMMANDS = {"start": "start", "refresh": "refresh", "help": "help", "cancel": "cancel", "back": "back"}
_WORD_COMMANDS = ("restart", "cancel", "back", "help", "change", "greet")


@dataclass(frozen=True)
class Command:
    """`start`, `refresh`, `restart`, `help`, `cancel`, `back`, `change`, `greet`, `keep`, `skip`, or `unknown`."""

    name: str


@dataclass(frozen=True)
class Answer:
    """A valid value for the slot that was asked for."""

    value: Value


@dataclass(frozen=True)
class Correction:
    """Another slot is named: with its new value, or without one, or with one that is not valid."""

    field: Field
    value: Value | None = None
    invalid: bool = False


@dataclass(frozen=True)
class Confirmation:
    """A yes or a no to the summary."""

    yes: bool


@dataclass(frozen=True)
class Nothing:
    """Not understood; `unreadable` when there was no text but a file."""

    unreadable: bool = False


Intent = Command | Answer | Correction | Confirmation | Nothing


@dataclass(frozen=True)
class Position:
    """Where the form stands. `current` is None at the confirmation."""

    fields: Sequence[Field]
    current: Field | None
    filled: frozenset[str]
    choosing: bool
    """The person said that something is wrong, and was asked what."""


def read_message(message: Inbound, place: Position, reader: Reader) -> Intent:
    """The meaning of a message: of its shared phone, its button, or its text, whichever says something."""
    if message.shared_phone:
        intent = _unnamed_phone(message.shared_phone, place, reader)
        if intent:
            return intent
    for text in (message.button_data, message.text):
        cleaned = clean(text)
        intent = read_text(cleaned, place, reader) if cleaned else Nothing()
        if not isinstance(intent, Nothing):
            return intent
    return Nothing(unreadable=message.attachments > 0 and not message.text.strip())


def read_command(message: Inbound) -> str:
    """The command of a message that opens a dialog: `help`, `cancel` ..., or empty."""
    for text in (message.button_data, message.text):
        command = _command(clean(text)) if text else None
        if command:
            return command.name
    return ""


def read_text(text: str, place: Position, reader: Reader) -> Intent:
    """The meaning of a `clean` text that is not empty."""
    current = place.current
    if current and current.slot.type in ("choice", "yes_no"):
        value = current.read(text, reader)
        if value is not None:
            return Answer(value)
    command = _command(text) or _command_here(text, place)
    if command:
        return command
    if len(text) <= LONGEST:
        intent = _confirmation(text) if current is None else None
        intent = intent or _correction(text, place, reader) or _unnamed_phone(text, place, reader)
        if intent:
            return intent
    if current is None:
        return _only_taker(text, place, reader) or Nothing() if place.choosing else Nothing()
    value = current.read(text, reader)
    return Nothing() if value is None else Answer(value)


def _command(text: str) -> Command | None:
    slash = _SLASH.match(text)
    if slash:
        return Command(_SLASH_COMMANDS.get(slash.group(1).lower(), "unknown"))
    if len(text) > 100:
        return None
    known = vocabulary()
    return next((Command(name) for name in _WORD_COMMANDS if known.says(name, text)), None)


def _command_here(text: str, place: Position) -> Command | None:
    if place.current is None or len(text) > 100:
        return None
    known = vocabulary()
    if place.current.name in place.filled and known.says("keep", text):
        return Command("keep")
    if place.current.slot.optional and known.says("skip", text):
        return Command("skip")
    return None


def _confirmation(text: str) -> Intent | None:
    known = vocabulary()
    if known.says("yes", text):
        return Confirmation(True)
    return Confirmation(False) if known.says("no", text) else None


def _correction(text: str, place: Position, reader: Reader) -> Intent | None:
    """A slot that the text names, when that makes more sense than taking the text as the answer."""
    field, rest, explicit = _reference(text, place.fields)
    current = place.current
    if field is None:
        return _counted(text, place, reader)
    said = rest if field.slot.type == "text" else _without_instead(rest)
    value = field.read(said, reader) if said else None
    if value is not None:
        return Answer(value) if field is current else Correction(field, value)
    if field is current:
        return Correction(field) if not rest else None
    if current is not None and not explicit and rest and current.read(text, reader) is not None:
        return None
    if current is not None and field.name not in place.filled:
        # Not asked for yet: the name alone says nothing, a longer text is the answer to the question.
        return None if rest else Nothing()
    return Correction(field, invalid=bool(rest))


def _reference(text: str, fields: Sequence[Field]) -> tuple[Field | None, str, bool]:
    """The slot that a text begins with naming, what is said of it, and whether the wording leaves no doubt."""
    known = vocabulary()
    said = tokens(text)
    words = [token.word for token in said]
    at, explicit = 0, False
    while at < min(len(words), MOST_WORDS):
        size, field = max(((field.names.match(words, at), field) for field in fields), key=lambda found: found[0])
        if size:
            rest = text[said[at + size - 1].end :]
            explicit = explicit or rest.lstrip()[:1] in (":", "=")
            return field, _value_part(rest), explicit
        change = known["change"].match(words, at)
        explicit = explicit or change > 0
        skipped = change or known["lead"].match(words, at) or (1 if words[at] in ".,!;:-–—" else 0)
        if not skipped:
            break
        at += skipped
    return None, "", False


def _value_part(rest: str) -> str:
    """What follows a slot's name, without what only links it; empty for `телефон другой`."""
    known = vocabulary()
    separators = _SEPARATORS.match(rest)
    rest = rest[separators.end() :] if separators else rest
    said = tokens(rest)
    words = [token.word for token in said]
    at = 0
    while at < len(words):
        size = known["link"].match(words, at) or known["change"].match(words, at) or known["polite"].match(words, at)
        size = size or (1 if words[at] in ".,!;?" else 0)
        if not size:
            break
        at += size
    if at == len(words):
        return ""
    linked = known["link"].match(words, 0)
    return rest[said[linked - 1].end :].strip(" :") if linked else rest.strip()


def _counted(text: str, place: Position, reader: Reader) -> Intent | None:
    """`хочу 5 бутылей вместо 3`: a number with the unit or name of an integer slot."""
    shortened = _without_instead(text)
    words = [token.word for token in tokens(shortened)][:MOST_WORDS]
    for field in place.fields:
        if field.slot.type == "integer" and field is not place.current:
            named = any(field.units.match(words, at) or field.names.match(words, at) for at in range(len(words)))
            value = field.read(shortened, reader) if named else None
            if value is not None:
                return Correction(field, value)
    return None


def _without_instead(text: str) -> str:
    phrases = vocabulary()["instead"]
    said = tokens(text)
    words = [token.word for token in said]
    cut = next((at for at in range(1, len(words)) if phrases.match(words, at)), None)
    return text if cut is None else text[: said[cut].start].rstrip(" ,")


def _unnamed_phone(text: str, place: Position, reader: Reader) -> Intent | None:
    """A phone number is known by its looks: it is the answer, or the value of the first phone slot."""
    if not looks_like_phone(text):
        return None
    current = place.current
    if current is not None and current.slot.type == "phone":
        value = current.read(text, reader)
        return None if value is None else Answer(value)
    for field in place.fields:
        if field.slot.type == "phone":
            value = field.read(text, reader)
            return None if value is None else Correction(field, value)
    return None


def _only_taker(text: str, place: Position, reader: Reader) -> Intent | None:
    """A bare value after "what shall I correct?", when one slot of a strict type takes it."""
    strict = [field for field in place.fields if field.slot.type != "text"]
    taken = [(field, value) for field in strict if (value := field.read(text, reader)) is not None]
    return Correction(*taken[0]) if len(taken) == 1 else None
