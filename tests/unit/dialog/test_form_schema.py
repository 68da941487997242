"""Loading a form: what is wrong is named."""

import pytest

from services.dialog.flows.form_schema import FORMS, load_bundled_form, load_form
from services.dialog.flows.patterns import compile_pattern
from services.kernel.errors import Kind, ParleyError

SMALL = """
form_id: feedback
version: "2"
default_locale: en
texts:
  greeting: {en: "Hi!"}
slots:
  - name: mark
    step: asking_mark
    type: integer
    min: 1
    max: 5
    label: {en: mark}
    ask: {en: "How was it, from 1 to 5?"}
    invalid: {en: "From 1 to 5, please."}
"""


def failure(definition: str) -> ParleyError:
    with pytest.raises(ParleyError) as caught:
        load_form(definition)
    assert (caught.value.kind, caught.value.reason) == (Kind.INVALID, "INVALID_FORM")
    assert caught.value.metadata["field"] == caught.value.fields[0].field
    assert caught.value.message.startswith(caught.value.metadata["field"])
    return caught.value


@pytest.mark.parametrize("path", sorted(FORMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_bundled_form_loads_by_its_id(path: object) -> None:
    assert load_bundled_form(path.stem.replace("_", "-")).form.form_id == path.stem.replace("_", "-")  # type: ignore[attr-defined]


def test_version_names_the_declared_one_and_the_wording() -> None:
    one, other = load_form(SMALL), load_form(SMALL.replace("Hi!", "Hello!"))
    assert one.version.startswith("2-")
    assert len(one.version) <= 32
    assert one.version != other.version
    assert one.version == load_form(SMALL).version


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("    max: 5\n", "    max: many\n", "slots[0].max"),
        ("    max: 5\n", "    max: 0\n", "slots[0]"),
        ("    max: 5\n", "    maximum: 5\n", "slots[0].maximum"),
        ("type: integer", "type: number", "slots[0].type"),
        ("type: integer", "type: choice", "slots[0]"),
        ("name: mark", "name: _mark", "slots[0].name"),
        ("form_id: feedback\n", "", "form_id"),
        ("form_id: feedback", "form_id: two words", "form_id"),
        ("step: asking_mark", "step: completed", "form"),
        ("step: asking_mark", "step: waiting_confirmation", "form"),
        ('greeting: {en: "Hi!"}', 'greting: {en: "Hi!"}', "form"),
        ('greeting: {en: "Hi!"}', 'greeting: {en: "Hi {name}!"}', "form"),
        ('greeting: {en: "Hi!"}', 'greeting: {en: "Hi {mark.__class__}!"}', "form"),
        ('greeting: {en: "Hi!"}', 'greeting: {en: "Hi {mark!r}!"}', "form"),
        ('greeting: {en: "Hi!"}', 'greeting: {en: "Hi {"}', "form"),
        ('version: "2"', 'version: "2"\nversion: "3"', "version"),
        ('version: "2"', 'version: "2"\ntime_zone: Nowhere/At_All', "time_zone"),
        ("    max: 5\n", "    max: 5\n    pattern: '(a+)+b'\n", "slots[0].pattern"),
        ("    label: {en: mark}\n", "    label: {}\n", "slots[0].label"),
        ("  - name: mark", "  -- name: mark", "line 9"),
        ("label: {en: mark}", "label: &a {en: mark}", "line 13"),
    ],
)
def test_errors_name_the_key(old: str, new: str, key: str) -> None:
    assert old in SMALL
    assert failure(SMALL.replace(old, new)).metadata["field"].startswith(key)


@pytest.mark.parametrize(
    "definition", ["", "just text", "- a\n- b", "a: " + "[" * 30 + "]" * 30, "# only\n", "x" * 70000]
)
def test_what_is_no_form_is_refused(definition: str) -> None:
    failure(definition)


def test_several_errors_are_told_at_once() -> None:
    broken = SMALL.replace("max: 5", "max: many").replace("form_id: feedback", "form_id: ''")
    assert {violation.field for violation in failure(broken).fields} == {"form_id", "slots[0].max"}


def test_an_unknown_form_is_not_found() -> None:
    for form_id in ("no-such-form", "../texts/ru"):
        with pytest.raises(ParleyError) as caught:
            load_bundled_form(form_id)
        assert caught.value.reason == "FORM_NOT_FOUND"


@pytest.mark.parametrize(
    "pattern", [r"(a+)+", r"(a*)*", r"(a|a)*b", r"(\w+\s?)*$", r"a*a*a*b", r"(a)\1", r"(?=a)b", r"(", r"x" * 201]
)
def test_patterns_that_could_hang_a_worker_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is|has"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"^\+996\d{9}$", r"\w", r"^[A-Z]{2}\d+$", r"^(yes|no)$", r"^(\d{3}-)?\d{4}$"])
def test_plain_patterns_are_allowed(pattern: str) -> None:
    assert compile_pattern(pattern).pattern == pattern
