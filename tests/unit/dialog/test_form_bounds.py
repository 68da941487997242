"""The time of one message is bounded, whatever it says and whatever the form is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import process_time

import pytest

from services.dialog.domain.bots import Bot, FormSettings
from services.dialog.domain.flows import (
    Dialog,
    Inbound,
    Known,
    TurnInput,
)
from services.dialog.flows.form import FormFlow
from services.dialog.flows.form_schema import load_form
from services.dialog.flows.vocabulary import clean

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEAD = "form_id: f\nversion: '1'\ndefault_locale: en\nslots:\n"


def slots(kind: str, count: int, phrases: str, more: str = "") -> str:
    texts = "label: {en: s}, ask: {en: a}, invalid: {en: i}"
    return HEAD + "".join(
        f"- {{name: s{n}, step: t{n}, type: {kind}, {texts}, synonyms: {{en: [{phrases}]}}{more}}}\n"
        for n in range(count)
    )


def hostile_forms() -> Iterator[tuple[str, str]]:
    yield "words", slots("integer", 50, ", ".join(f"a a a b{n}" for n in range(18)))
    yield "stars", slots("integer", 50, ", ".join(f"a* a a b{n}" for n in range(5)))
    yield "patterns", slots("text", 50, "x", ", max_length: 1000, pattern: '.{0,20}x'")
    options = ", ".join(f"{{value: v{n}, label: {{en: a a a c{n}}}}}" for n in range(200))
    yield "options", slots("choice", 1, "x", f", options: [{options}]")


FORMS = dict(hostile_forms())
TEXTS = [
    "a " * 30_000,
    "a " * 500,
    "." * 60_000,
    ", " * 490,
    "change " * 140,
    "+7 " * 333,
    "ﷺ" * 60_000,
    "\u0315\u0316" * 30_000,
]


@pytest.mark.parametrize("name", FORMS)
async def test_no_message_holds_a_worker_up(name: str) -> None:
    """40 s for the first text with the second form, before; some 50 ms at most now."""
    loaded = load_form(FORMS[name])
    flow = FormFlow(loaded, "en")
    for step in (loaded.form.slots[0].step, "waiting_confirmation"):
        for text in TEXTS:
            dialog = Dialog(flow="f", flow_version=loaded.version, step=step, started_at=NOW)
            bot = Bot("acme", "bot", FormSettings())
            turn = TurnInput("turn", bot, [Inbound("m", text, NOW)], Known(dialog=dialog), NOW)
            begun = process_time()
            await flow.decide(turn, None)  # type: ignore[arg-type]
            assert process_time() - begun < 1, text[:10]


def test_cleaning_composes_letters_in_texts_of_any_length() -> None:
    assert clean("е\u0308лка") == "ёлка"
    long = "е\u0308лка " * 2000
    assert clean(long) == ("ёлка " * 2000).strip()
