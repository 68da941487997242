"""The types of slots: reading a value from a text, checking a stored one, showing it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import phonenumbers

from services.dialog.flows.form_schema import (
    LoadedForm,
    Option,
    Slot,
    localised,
)
from services.dialog.flows.patterns import compile_pattern
from services.dialog.flows.vocabulary import (
    LONGEST,
    MOST_WORDS,
    Phrases,
    Vocabulary,
    bare,
    clean,
    fold,
    tokens,
    vocabulary,
)

Value = str | int | bool
"""What a slot holds; dates as `2026-11-21`, phones in E.164."""

_PHONE = re.compile(r"\+?\(?\d[\d\s\-().]{5,}\d")
_WHOLE_PHONE = re.compile(r"[+()\d\s\-.]{7,25}")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{1,2})[./](\d{1,2})(?:[./](\d{4}|\d{2}))?")
_DIGIT_LETTER = re.compile(r"(?<=\d)(?=[^\W\d_])")
_WHOLE_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Reader:
    """What reading depends on besides the text."""

    region: str
    today: date


@dataclass(frozen=True)
class Field:
    """A slot, made ready in one locale."""

    slot: Slot
    label: str
    ask: str
    invalid: str
    names: Phrases
    """What people call it, in all languages."""
    units: Phrases
    options: tuple[tuple[Option, str, Phrases], ...]
    """With the label in this locale and all that people may call it."""

    @property
    def name(self) -> str:
        return self.slot.name

    @property
    def step(self) -> str:
        return self.slot.step

    def read(self, text: str, reader: Reader) -> Value | None:
        """The value that a person's text gives, or None when it gives none."""
        cleaned = clean(text)
        if not cleaned or len(cleaned) > _LONGEST.get(self.slot.type, LONGEST):
            return None
        value = _READ[self.slot.type](self, cleaned, reader)
        return value if value is not None and self.accepts(value, reader) else None

    def accepts(self, value: object, reader: Reader) -> bool:
        """Whether a value, for example one stored under an older form, is one that this slot may hold."""
        return _ACCEPT[self.slot.type](self, value, reader)

    def restore(self, value: object) -> object:
        """A value as it was before JSON made numbers of one kind: 3.0 is 3."""
        is_whole = self.slot.type == "integer" and isinstance(value, float) and value.is_integer()
        return int(value) if is_whole and isinstance(value, float) else value

    def show(self, value: object, text: Mapping[str, str]) -> str:
        """The value as people read it; `text` holds the words for none, yes and no."""
        if value is None:
            return text["none"]
        if isinstance(value, bool):
            return text["yes"] if value else text["no"]
        if self.slot.type == "date":
            return date.fromisoformat(str(value)).strftime("%d.%m.%Y")
        return next((label for option, label, _ in self.options if option.value == value), str(value))


def compile_fields(loaded: LoadedForm, locale: str) -> tuple[Field, ...]:
    """A form's slots, ready in a locale."""
    form = loaded.form
    pick: Callable[[dict[str, str]], str] = partial(localised, locale=locale, default=form.default_locale)

    def option_phrases(option: Option) -> Phrases:
        synonyms = (phrase for phrases in option.synonyms.values() for phrase in phrases)
        return Phrases.of([option.value, *option.label.values(), *synonyms])

    def field(slot: Slot) -> Field:
        names = [*slot.label.values(), *(phrase for phrases in slot.synonyms.values() for phrase in phrases)]
        units = [phrase for phrases in slot.units.values() for phrase in phrases]
        options = tuple((option, pick(option.label), option_phrases(option)) for option in slot.options)
        return Field(
            slot, pick(slot.label), pick(slot.ask), pick(slot.invalid), Phrases.of(names), Phrases.of(units), options
        )

    return tuple(map(field, form.slots))


def looks_like_phone(text: str) -> bool:
    """Whether a text is nothing but signs of a phone number, enough of them for one."""
    return bool(_WHOLE_PHONE.fullmatch(text)) and sum(map(str.isdigit, text)) >= 9


def _read_text(field: Field, text: str, reader: Reader) -> Value | None:
    return text


def _read_phone(field: Field, text: str, reader: Reader) -> Value | None:
    """One number in the text, with words around it or not; without a country code it is of the region."""
    found = _PHONE.findall(text)
    if len(found) != 1 or sum(map(str.isdigit, text)) != sum(map(str.isdigit, found[0])):
        return None
    try:
        number = phonenumbers.parse(found[0], reader.region or None)
    except phonenumbers.NumberParseException:
        return None
    possible = phonenumbers.is_possible_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if possible else None


def _read_integer(field: Field, text: str, reader: Reader) -> Value | None:
    """The one number of a text whose other words may stand by it: `3 шт`, `хочу двадцать пять бутылей`."""
    known = vocabulary()
    spaced = _DIGIT_LETTER.sub(" ", fold(text))
    words = [token.word for token in tokens(spaced) if token.word not in ".,!;:()\"'«»"]
    if len(words) > MOST_WORDS:
        return None
    said: list[str] = []
    ended = False
    at = 0
    while at < len(words):
        if _WHOLE_NUMBER.fullmatch(words[at]) or words[at] in known.numbers:
            if ended:
                return None
            said.append(words[at])
            at += 1
            continue
        ended = ended or bool(said)
        size = _beside_a_number(field, known, words, at)
        if not size:
            return None
        at += size
    if len(said) == 1 and said[0].isdigit():
        return int(said[0])
    return known.number(said)


def _beside_a_number(field: Field, known: Vocabulary, words: list[str], at: int) -> int:
    groups = (field.units, field.names, known["lead"], known["polite"], known["link"])
    return max(group.match(words, at) for group in groups)


def _read_choice(field: Field, text: str, reader: Reader) -> Value | None:
    said = bare(text)
    for option, _, phrases in field.options:
        if phrases.says(said):
            return option.value
    number = int(said) if _WHOLE_NUMBER.fullmatch(said) else 0
    return field.options[number - 1][0].value if 1 <= number <= len(field.options) else None


def _read_yes_no(field: Field, text: str, reader: Reader) -> Value | None:
    known = vocabulary()
    if known.says("yes", text):
        return True
    return False if known.says("no", text) else None


def _read_date(field: Field, text: str, reader: Reader) -> Value | None:
    known = vocabulary()
    for key, days in (("today", 0), ("tomorrow", 1), ("day_after_tomorrow", 2)):
        if known.says(key, text):
            return (reader.today + timedelta(days=days)).isoformat()
    found = _DATE.fullmatch(bare(text))
    if not found:
        return None
    year, month, day, short_day, short_month, short_year = found.groups()
    try:
        if year:
            return date(int(year), int(month), int(day)).isoformat()
        if short_year:
            return date(int(short_year) % 2000 + 2000, int(short_month), int(short_day)).isoformat()
        coming = date(reader.today.year, int(short_month), int(short_day))
        return (coming if coming >= reader.today else coming.replace(year=coming.year + 1)).isoformat()
    except ValueError:
        return None


def _accept_text(field: Field, value: object, reader: Reader) -> bool:
    slot = field.slot
    return (
        isinstance(value, str)
        and slot.min_length <= len(value) <= slot.max_length
        and (not slot.pattern or compile_pattern(slot.pattern).search(value) is not None)
    )


def _accept_phone(field: Field, value: object, reader: Reader) -> bool:
    pattern = field.slot.pattern or r"^\+\d{7,15}$"
    return isinstance(value, str) and len(value) <= 16 and compile_pattern(pattern).search(value) is not None


def _accept_integer(field: Field, value: object, reader: Reader) -> bool:
    slot = field.slot
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and (slot.min is None or value >= slot.min)
        and (slot.max is None or value <= slot.max)
    )


def _accept_choice(field: Field, value: object, reader: Reader) -> bool:
    return any(option.value == value for option, _, _ in field.options)


def _accept_yes_no(field: Field, value: object, reader: Reader) -> bool:
    return isinstance(value, bool)


def _accept_date(field: Field, value: object, reader: Reader) -> bool:
    try:
        days = (date.fromisoformat(str(value)) - reader.today).days
    except ValueError:
        return False
    slot = field.slot
    return (slot.min is None or days >= slot.min) and (slot.max is None or days <= slot.max)


_LONGEST = {"text": 65536, "integer": 300, "choice": 300, "yes_no": 300, "date": 100}
"""Characters of a text that may give a value of a type; LONGEST for others."""

_READ: Mapping[str, Callable[[Field, str, Reader], Value | None]] = {
    "text": _read_text,
    "phone": _read_phone,
    "integer": _read_integer,
    "choice": _read_choice,
    "yes_no": _read_yes_no,
    "date": _read_date,
}
_ACCEPT: Mapping[str, Callable[[Field, object, Reader], bool]] = {
    "text": _accept_text,
    "phone": _accept_phone,
    "integer": _accept_integer,
    "choice": _accept_choice,
    "yes_no": _accept_yes_no,
    "date": _accept_date,
}
