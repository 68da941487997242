"""The YAML of a form: loading it, with errors that name the key."""

import hashlib
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.dialog.flows.form_yaml import Read, invalid
from services.dialog.flows.patterns import MOST_WORK, compile_pattern, work
from services.dialog.texts import LOCALES, fallbacks, language_file
from services.kernel.errors import FieldViolation, not_found

FORMS = Path(__file__).parent.parent / "forms"
MOST_PHRASES = 1000
MOST_STARRED = 250
"""Words and phrases of a form at most, and of these with a `*`: each message is compared with all of them."""
LEAST_LENGTH = 500
"""Characters that a pattern is taken to be tried on at least, so that compiling all of them is quick too."""
MOST_PLACEHOLDERS = 64
MOST_SUMMARIES = 4
"""Placeholders of one text at most, and of these `{summary}` and `{labels}`, which stand for all slots."""
MOST_TOLD = 20
"""Violations that are told one by one."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Phrase = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^\s*(\S+\s*){0,16}$")]
"""Of 16 words at most."""
Locale = Annotated[str, Field(max_length=35)]
ByLocale = Annotated[dict[Locale, Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=32)]
Words = Annotated[dict[Locale, Annotated[list[Phrase], Field(max_length=100)]], Field(max_length=32)]
Label = Annotated[dict[Locale, Phrase], Field(min_length=1, max_length=32)]
Number = Annotated[int, Field(ge=-(10**15), le=10**15)]

STEPS = frozenset({"initial", "completed"})


class FormPart(BaseModel):
    """Keys that are not known are errors; a loaded form never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Option(FormPart):
    """One answer to a choice."""

    value: Annotated[str, Field(min_length=1, max_length=100)]
    label: Label
    synonyms: Words = {}


class Slot(FormPart):
    """One thing to ask for."""

    name: Name
    step: Name
    type: Literal["text", "phone", "integer", "choice", "yes_no", "date"]
    label: Label
    ask: ByLocale
    invalid: ByLocale
    synonyms: Words = {}
    optional: bool = False
    min_length: Annotated[int, Field(ge=1)] = 1
    max_length: Annotated[int, Field(le=4000)] = 1000
    pattern: str = ""
    """Of texts and phones (in E.164): must be found in the value. In the syntax of RE2."""
    min: Number | None = None
    """Of integers; of dates: days from today."""
    max: Number | None = None
    units: Words = {}
    """Words that may stand by an integer: `3 шт`."""
    options: Annotated[tuple[Option, ...], Field(max_length=200)] = ()

    @field_validator("pattern")
    @classmethod
    def _pattern_is_safe(cls, pattern: str) -> str:
        compile_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Slot":
        if self.min_length > self.max_length:
            raise ValueError("min_length is more than max_length")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is more than max")
        if (self.type == "choice") != bool(self.options):
            raise ValueError("options belong to a slot of type choice, which has at least one")
        if len({option.value for option in self.options}) != len(self.options):
            raise ValueError("two options have the same value")
        return self


class Form(FormPart):
    """A form: slots that are asked for one after the other, then a yes."""

    form_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,15}$")]
    default_locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*$")]
    region: Annotated[str, Field(pattern=r"^([A-Z]{2})?$")] = ""
    """Region of phone numbers without a country code; the tenant's when empty."""
    time_zone: str = "UTC"
    confirmation_step: Name = "waiting_confirmation"
    texts: dict[str, ByLocale] = {}
    slots: Annotated[tuple[Slot, ...], Field(min_length=1, max_length=50)]

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"no time zone {name!r}")
        return name

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Form":
        steps = [*(slot.step for slot in self.slots), self.confirmation_step]
        for what, names, reserved in (
            ("name", [slot.name for slot in self.slots], frozenset()),
            ("step", steps, STEPS),
        ):
            seen: set[str] = set(reserved)
            for name in names:
                if name in seen:
                    raise ValueError(f"{what} {name!r} is taken")
                seen.add(name)
        return self

    @model_validator(mode="after")
    def _reading_is_quick(self) -> "Form":
        phrases = [phrase for slot in self.slots for phrase in _phrases(slot)]
        starred = sum("*" in phrase for phrase in phrases)
        if len(phrases) > MOST_PHRASES or starred > MOST_STARRED:
            raise ValueError(
                f"has {len(phrases)} labels, synonyms, units and options, {starred} of them with a *; there may be "
                f"{MOST_PHRASES} and {MOST_STARRED}"
            )
        costs = {slot.name: work(slot.pattern, max(_longest(slot), LEAST_LENGTH)) for slot in self.slots}
        if sum(costs.values()) > MOST_WORK:
            name = max(costs, key=lambda each: costs[each])
            raise ValueError(
                f"the patterns take too long on long answers, most of all that of {name!r}: repeat less in it, or set "
                "a smaller max_length"
            )
        return self

    @model_validator(mode="after")
    def _texts_are_known(self) -> "Form":
        known = language_file(LOCALES[0])["form"]
        slots = {slot.name for slot in self.slots}
        for key, texts in self.texts.items():
            if key not in known:
                raise ValueError(f"texts.{key} is not known; there are {', '.join(sorted(known))}")
            for locale, text in texts.items():
                check_template(f"texts.{key}.{locale}", text, slots)
        return self


@dataclass(frozen=True)
class LoadedForm:
    """A form, and what tells this wording of it from others."""

    form: Form
    version: str
    """The declared version and a digest of the definition: `1-5f3a9c2e`."""


def _phrases(slot: Slot) -> Iterator[str]:
    """The words and phrases that a message is compared with for a slot."""
    for label in (slot.label, *(option.label for option in slot.options)):
        yield from label.values()
    for words in (slot.synonyms, slot.units, *(option.synonyms for option in slot.options)):
        for phrases in words.values():
            yield from phrases


def _longest(slot: Slot) -> int:
    """Characters of a value that the slot's pattern is tried on."""
    return 16 if slot.type == "phone" else slot.max_length


PLACEHOLDERS = frozenset({"summary", "labels", "label", "value"})


def check_template(key: str, template: str, slots: set[str]) -> None:
    """Raise ValueError unless the template's placeholders are plain names of slots or of ours."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces") from error
    for name, spec, conversion in fields:
        if name is not None and (name not in slots | PLACEHOLDERS or spec or conversion):
            raise ValueError(f"{key}: no placeholder {{{name[:100]}}}; there are the slots' names")
    named = [name for name, _, _ in fields if name is not None]
    if len(named) > MOST_PLACEHOLDERS or named.count("summary") + named.count("labels") > MOST_SUMMARIES:
        raise ValueError(f"{key}: has more than {MOST_PLACEHOLDERS} placeholders, or {MOST_SUMMARIES} for all slots")


def load_form(definition: str) -> LoadedForm:
    """Read a form from YAML. Raises ParleyError INVALID_FORM, which names the key and the line."""
    read = Read(definition)
    try:
        form = Form.model_validate(read.content)
    except ValidationError as error:
        violations = _violations(error, read)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise invalid(violations[0].field, violations[0].description + more, violations) from error
    digest = hashlib.sha256(definition.encode()).hexdigest()[:8]
    return LoadedForm(form, f"{form.version}-{digest}")


@lru_cache(maxsize=64)
def load_bundled_form(form_id: str) -> LoadedForm:
    """A form that comes with Parley. Raises ParleyError FORM_NOT_FOUND."""
    path = FORMS / f"{form_id.replace('-', '_')}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", form_id) or not path.is_file():
        raise not_found("FORM_NOT_FOUND", "form", "form_id", form_id)
    return load_form(path.read_text(encoding="utf-8"))


def localised(texts: dict[str, Any], locale: str, default: str) -> Any:
    """The value for a locale, or for the nearest one that there is."""
    for name in (*fallbacks(locale), *fallbacks(default)):
        if name in texts:
            return texts[name]
    return next(iter(texts.values()))


def _violations(error: ValidationError, read: Read) -> tuple[FieldViolation, ...]:
    """The first ones, one for each key that is wrong, but none for a list that is short because its items are wrong."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    above = {one["loc"][:depth] for one in errors for depth in range(len(one["loc"]))}
    found = {one["loc"]: one["msg"].removeprefix("Value error, ") for one in errors if one["loc"] not in above}
    told = [
        FieldViolation(_key(location)[:200], f"line {read.line_of(_key(location))}: {problem[:500]}")
        for location, problem in islice(found.items(), MOST_TOLD)
    ]
    if len(found) > MOST_TOLD:
        told.append(FieldViolation("form", f"and {len(found) - MOST_TOLD} more"))
    return tuple(told)


def _key(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "form"
