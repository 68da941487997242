"""Reading values of each type."""

import pytest

from services.dialog.flows.form_schema import load_form
from services.dialog.flows.form_slots import Field, Reader, compile_fields
from tests.support.talk import START, form_talk

READER = Reader("KG", START.date())
LINES = "label: {en: it}\n    ask: {en: Which}\n    invalid: {en: Not that.}"


def slot(type_: str, *extra: str) -> Field:
    lines = "\n    ".join([f"type: {type_}", *extra])
    head = "form_id: f\nversion: '1'\ndefault_locale: en\nslots:\n  - name: it\n    step: asking"
    return compile_fields(load_form(f"{head}\n    {lines}\n    {LINES}"), "en")[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+996700123456", "+996700123456"),
        ("+996 700 12-34-56", "+996700123456"),
        ("996700123456", "+996700123456"),
        ("0700123456", "+996700123456"),
        ("0 (700) 123-456", "+996700123456"),
        ("700123456", "+996700123456"),
        ("мой номер 0700 123 456, Айбек", "+996700123456"),
        ("٠٧٠٠١٢٣٤٥٦", "+996700123456"),
        ("+996123456789", "+996123456789"),
        ("123", None),
        ("07001234567890", None),
        ("0700123456 0555123456", None),
        ("дом 12, 0700123456", None),
        ("телефон", None),
        ("+", None),
    ],
)
def test_phones(text: str, value: str | None) -> None:
    assert slot("phone", r"pattern: '^\+996\d{9}$'").read(text, READER) == value


def test_a_phone_of_any_country_is_read_without_a_pattern() -> None:
    assert slot("phone").read("+7 (916) 123-45-67", READER) == "+79161234567"
    assert slot("phone").read("8 916 123-45-67", Reader("RU", START.date())) == "+79161234567"
    assert slot("phone").read("+7 916 123-45-67", Reader("", START.date())) == "+79161234567"
    assert slot("phone").read("9161234567", Reader("", START.date())) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3 шт", 3),
        ("3шт.", 3),
        ("три бутылки", 3),
        ("двадцать пять", 25),
        ("Хочу двадцать пять бутылей, пожалуйста", 25),
        ("twenty five bottles", 25),
        ("пару", 2),
        ("десяток", 10),
        ("３", 3),
        ("пятьдесят", 50),
        ("fifty one", None),
        ("двадцать двадцать", None),
        ("три 4", None),
        ("3-5", None),
        ("-3", None),
        ("3.5", None),
        ("1e3", None),
        ("9" * 400, None),
        ("Киевская 12", None),
        ("ничего", None),
    ],
)
def test_integers(text: str, value: int | None) -> None:
    units = "units: {ru: [бутыл*, шт], en: [bottles]}"
    assert slot("integer", "min: 1", "max: 50", units).read(text, READER) == value


def test_zero_and_false_are_not_taken_for_each_other() -> None:
    assert slot("integer").accepts(0, READER)
    assert not slot("integer").accepts(False, READER)
    assert not slot("yes_no").accepts(0, READER)


def test_texts_are_stored_without_what_cannot_be_seen() -> None:
    assert slot("text").read("  Kievskaya\n\t120\u200b \x00", READER) == "Kievskaya 120"
    assert slot("text", "min_length: 3").read("\u200b \n a", READER) is None


@pytest.mark.parametrize(
    ("text", "value"), [("Small", "s"), ("L", "l"), ("2", "l"), ("large!", "l"), ("big", "l"), ("3", None), ("x", None)]
)
def test_choices_by_label_synonym_or_number(text: str, value: str | None) -> None:
    options = "options: [{value: s, label: {en: small}}, {value: l, label: {en: large}, synonyms: {en: [big]}}]"
    assert slot("choice", options).read(text, READER) == value


@pytest.mark.parametrize(("text", "value"), [("да", True), ("No!", False), ("-", False), ("не знаю", None)])
def test_yes_and_no(text: str, value: bool | None) -> None:
    assert slot("yes_no").read(text, READER) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("сегодня", "2026-11-21"),
        ("Tomorrow", "2026-11-22"),
        ("послезавтра", "2026-11-23"),
        ("25.11", "2026-11-25"),
        ("25.11.2026", "2026-11-25"),
        ("25.11.26", "2026-11-25"),
        ("2026-11-25", "2026-11-25"),
        ("1.02", None),
        ("20.11.2026", None),
        ("31.02.2027", None),
        ("29.02", None),
        ("вчера", None),
    ],
)
def test_dates_within_a_month(text: str, value: str | None) -> None:
    assert slot("date", "min: 0", "max: 30").read(text, READER) == value


def test_a_day_and_month_that_have_passed_are_next_years() -> None:
    assert slot("date").read("1.02", READER) == "2027-02-01"


RICH = """
form_id: rich
version: "1"
default_locale: en
slots:
  - {name: size, step: s1, type: choice, label: {en: size}, ask: {en: "Size?"}, invalid: {en: Small or large.},
     options: [{value: s, label: {en: small}}, {value: l, label: {en: large}}]}
  - {name: gift, step: s2, type: yes_no, label: {en: gift}, ask: {en: "A gift?"}, invalid: {en: Yes or no.}}
  - {name: note, step: s3, type: text, optional: true, label: {en: note}, ask: {en: "A note?"}, invalid: {en: Shorter.}}
  - {name: day, step: s4, type: date, label: {en: day}, ask: {en: "When?"}, invalid: {en: A day.}, min: "0"}
"""


async def test_a_form_of_all_types_is_filled_with_general_texts() -> None:
    talk = form_talk(load_form(RICH), locale="en")
    assert await talk.say("hi") == "Hello!\n\nSize?"
    await talk.say("large")
    await talk.say("no")
    await talk.say("skip")
    assert talk.slots["note"] is None
    summary = await talk.say("tomorrow")
    assert "Size: large\nGift: no\nNote: not given\nDay: 22.11.2026" in summary
    await talk.say("note: ring twice")
    await talk.say("yes")
    assert talk.orders == [{"size": "l", "gift": False, "note": "ring twice", "day": "2026-11-22"}]


async def test_a_date_that_has_passed_before_the_yes_is_asked_again() -> None:
    talk = form_talk(load_form(RICH), locale="en")
    await talk.say("hi", "large", "no", "skip", "today")
    reply = await talk.say("yes", seconds=86400)
    assert "When?" in reply
    assert (talk.step, talk.orders) == ("s4", [])
