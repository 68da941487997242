"""Loading a form: what is wrong is named."""

from time import process_time

import pytest

from services.dialog.flows.form_schema import (
    FORMS,
    MOST_TOLD,
    load_bundled_form,
    load_form,
)
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
        ("    max: 5\n", "    max: 5\n    pattern: '(?=a)b'\n", "slots[0].pattern"),
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


def test_a_wrong_pattern_is_named_with_its_line_and_reason() -> None:
    broken = failure(SMALL.replace("    max: 5\n", "    max: 5\n    pattern: '(a)\\1'\n"))
    assert broken.metadata["field"] == "slots[0].pattern"
    assert "line 13" in broken.message
    assert "back references" in broken.message


def test_patterns_that_take_long_together_are_refused() -> None:
    """One long pattern on a short text is good; on 4,000 characters it is not."""
    slot = SMALL.replace(
        "type: integer\n    min: 1\n    max: 5", "type: text\n    max_length: LONG\n    pattern: '.{0,900}x'"
    )
    load_form(slot.replace("LONG", "1000"))
    assert "mark" in failure(slot.replace("LONG", "4000")).message


FLOW_SLOT = "{name: s%d, step: t%d, type: text, label: {en: s}, ask: {en: a}, invalid: {en: i}}"
WORDS = ", ".join(f"l{n}: [{', '.join('abcdefghij' * 9)}]" for n in range(20))
WORDY = f"{(FLOW_SLOT % (0, 0))[:-1]}, synonyms: {{{WORDS}}}}}"
HEAD = "form_id: f\nversion: '1'\ndefault_locale: en\nslots:\n"
LARGE = {
    "empty slots": HEAD + "- {}\n" * 10_000,
    "few empty slots": HEAD + "- {}\n" * 2_000,
    "unknown keys": HEAD + "- {}\n" + "".join(f"k{n}: v\n" for n in range(7_000)),
    "fewer unknown keys": HEAD + "- {}\n" + "".join(f"k{n}: v\n" for n in range(2_000)),
    "many slots": HEAD + "".join(f"- {FLOW_SLOT % (n, n)}\n" for n in range(300)),
    "one name": HEAD + "".join(f"- {FLOW_SLOT % (0, 0)}\n" for n in range(50)),
    "a long key": HEAD + "- {}\n" + f"? {'k' * 60_000}\n: v\n",
    "deep lists": "a: " + "[" * 60_000,
    "deep mappings": "{a: " * 15_000,
    "laughs": "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
    "documents": "--- a\n" * 9_000,
    "comments": "#\n" * 32_000,
    "phrases": HEAD + f"- {WORDY}\n",
    "placeholders": HEAD + f"- {FLOW_SLOT % (0, 0)}\ntexts: {{greeting: {{en: '{'{summary}' * 400}'}}}}\n",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_definition_is_refused_at_once_and_in_few_words(name: str) -> None:
    begun = process_time()
    refused = failure(LARGE[name])
    assert process_time() - begun < 0.5  # 20 to 60 ms; the quadratic reading before took many seconds
    assert len(refused.fields) <= MOST_TOLD + 1
    assert sum(len(each.field) + len(each.description) for each in refused.fields) < 20_000


def test_the_rest_of_many_violations_is_counted() -> None:
    refused = failure(LARGE["fewer unknown keys"])
    assert refused.fields[-1].description == f"and {2_006 - MOST_TOLD} more"
