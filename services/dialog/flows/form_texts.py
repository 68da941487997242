"""What a form says, in one locale."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.dialog.flows.form_schema import Form, localised
from services.dialog.flows.form_slots import Field
from services.dialog.flows.form_state import State
from services.dialog.texts import general_text, language_file, language_of


class FormTexts:
    """Texts of a form; what it does not say itself is said in the language's own words."""

    def __init__(self, form: Form, fields: Sequence[Field], locale: str) -> None:
        general = language_file(language_of(locale))["form"]
        own = {key: localised(by_locale, locale, form.default_locale) for key, by_locale in form.texts.items()}
        self._templates: Mapping[str, str] = {**general, **own}
        self._fields = fields
        self._by_step = {field.step: field for field in fields}
        self._labels = ", ".join(field.label for field in fields)
        self.unknown_command = general_text(locale, "unknown_command")

    def say(self, key: str, slots: Mapping[str, Any] | None = None, **values: str) -> str:
        """The text of a key. Values of slots stand for their names, `{summary}` for all, `{labels}` for the names."""
        shown = {field.name: field.show((slots or {}).get(field.name), self._templates) for field in self._fields}
        lines = (f"{field.label[:1].upper()}{field.label[1:]}: {shown[field.name]}" for field in self._fields)
        known = {"label": "", "value": "", "labels": self._labels, "summary": "\n".join(lines)}
        return self._templates[key].format_map({**known, **shown, **values})

    def prompt(self, state: State) -> str:
        """What is asked at a state's step."""
        current = self._by_step.get(state.step)
        if current is None:
            return self.say("choose" if state.choosing else "confirm", state.slots)
        if current.name not in state.slots:
            return current.ask
        shown = current.show(state.slots[current.name], self._templates)
        return f"{current.ask}\n{self.say('current', value=shown)}"

    def puzzled(self, state: State, *, unreadable: bool) -> str:
        """What is said when an answer was not understood, or was a file."""
        if unreadable:
            return f"{self.say('attachment')}\n\n{self.prompt(state)}"
        current = self._by_step.get(state.step)
        if current:
            return current.invalid
        return self.say("choose" if state.choosing else "confirm_only", state.slots)

    def changed(self, field: Field, value: object) -> str:
        return self.say("changed", label=field.label, value=field.show(value, self._templates))
