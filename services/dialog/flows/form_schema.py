"""The YAML of a form: loading it, with errors that name the key."""

import hashlib
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.dialog.flows.patterns import compile_pattern
from services.dialog.texts import LOCALES, fallbacks, language_file
from services.kernel.errors import FieldViolation, Kind, ParleyError, not_found

FORMS = Path(__file__).parent.parent / "forms"
LARGEST = 65536
"""Characters of a definition at most."""
DEEPEST = 16
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Makes strings only: `no` is a word here, and no tag makes an object."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Phrase = Annotated[str, Field(min_length=1, max_length=100)]
ByLocale = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(min_length=1)]
Words = dict[str, Annotated[list[Phrase], Field(max_length=100)]]
Label = Annotated[dict[str, Phrase], Field(min_length=1)]

STEPS = frozenset({"initial", "completed"})


class Part(BaseModel):
    """Keys that are not known are errors; a loaded form never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Option(Part):
    """One answer to a choice."""

    value: Annotated[str, Field(min_length=1, max_length=100)]
    label: Label
    synonyms: Words = {}


class Slot(Part):
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
    """Of texts and phones (in E.164): must be found in the value."""
    min: int | None = None
    """Of integers; of dates: days from today."""
    max: int | None = None
    units: Words = {}
    """Words that may stand by an integer: `3 шт`."""
    options: tuple[Option, ...] = ()

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


class Form(Part):
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
        for what, names in (("name", [slot.name for slot in self.slots]), ("step", steps)):
            for name in names:
                if names.count(name) > 1 or (what == "step" and name in STEPS):
                    raise ValueError(f"{what} {name!r} is taken")
        return self

    @model_validator(mode="after")
    def _texts_are_known(self) -> "Form":
        known = language_file(LOCALES[0])["form"]
        for key, texts in self.texts.items():
            if key not in known:
                raise ValueError(f"texts.{key} is not known; there are {', '.join(sorted(known))}")
            for locale, text in texts.items():
                check_template(f"texts.{key}.{locale}", text, {slot.name for slot in self.slots})
        return self


@dataclass(frozen=True)
class LoadedForm:
    """A form, and what tells this wording of it from others."""

    form: Form
    version: str
    """The declared version and a digest of the definition: `1-5f3a9c2e`."""


PLACEHOLDERS = frozenset({"summary", "labels", "label", "value"})


def check_template(key: str, template: str, slots: set[str]) -> None:
    """Raise ValueError unless the template's placeholders are plain names of slots or of ours."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces") from error
    for name, spec, conversion in fields:
        if name is not None and (name not in slots | PLACEHOLDERS or spec or conversion):
            raise ValueError(f"{key}: no placeholder {{{name}}}; there are the slots' names")


def load_form(definition: str) -> LoadedForm:
    """Read a form from YAML. Raises ParleyError INVALID_FORM, which names the key or the line."""
    try:
        form = Form.model_validate(_read(definition))
    except yaml.YAMLError as error:
        raise _invalid(_line(error), str(getattr(error, "problem", None) or error)) from error
    except ValidationError as error:
        violations = _violations(error)
        raise _invalid(violations[0].field, violations[0].description, violations) from error
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


def _read(definition: str) -> Any:
    """Parse YAML into strings, lists and dicts, refusing what could grow: aliases and deep nesting."""
    if len(definition) > LARGEST:
        raise _invalid("definition_yaml", f"longer than {LARGEST} characters")
    depth = 0
    for event in yaml.parse(definition, _Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _invalid(_mark(event), "anchors and aliases are not supported")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _invalid(_mark(event), "nested too deep")
    node = yaml.compose(definition, _Loader)
    if node is None:
        raise _invalid("definition_yaml", "is empty")
    for key, line in _repeated(node):
        raise _invalid(key, f"given twice, again in line {line}")
    return yaml.load(definition, _Loader)  # noqa: S506 - it makes strings only


def _repeated(node: yaml.Node, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{path}.{key.value}".lstrip(".")
            if name in seen:
                yield name, key.start_mark.line + 1
            seen.add(name)
            yield from _repeated(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated(value, f"{path}[{index}]")


def _violations(error: ValidationError) -> tuple[FieldViolation, ...]:
    """One for each key that is wrong, but none for a list that is short because its items are wrong."""
    found = {
        _key(one["loc"]): one["msg"].removeprefix("Value error, ")
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    }
    return tuple(
        FieldViolation(key, problem)
        for key, problem in found.items()
        if not any(other.startswith((f"{key}.", f"{key}[")) for other in found)
    )


def _key(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "form"


def _line(error: yaml.YAMLError) -> str:
    return _at(getattr(error, "problem_mark", None))


def _mark(event: yaml.Event) -> str:
    return _at(event.start_mark)


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}" if mark else "definition_yaml"


def _invalid(key: str, problem: str, violations: tuple[FieldViolation, ...] = ()) -> ParleyError:
    fields = violations or (FieldViolation(key, problem),)
    return ParleyError(Kind.INVALID, "INVALID_FORM", f"{key}: {problem}", fields, {"field": key})
