"""What holds for a form whatever people write."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.dialog.flows.form_schema import FORMS, load_bundled_form, load_form
from services.dialog.flows.form_slots import Reader, compile_fields
from services.dialog.flows.vocabulary import (
    clean,
    fold,
    tokens,
    vocabulary,
)
from services.kernel.errors import ParleyError
from tests.support.talk import START, Talk, form_talk

LOADED = load_bundled_form("water-order")
STEPS = {"", "initial", "completed", "waiting_address", "waiting_phone", "waiting_bottles", "waiting_confirmation"}
READER = Reader("KG", START.date())
FIELDS = {field.name: field for field in compile_fields(LOADED, "ru")}

SAYINGS = (
    "привет", "Киевская 120", "адрес Новая 5", "адрес", "другой адрес", "0700123456", "телефон: 0555 000 111",
    "телефон", "телефон 12", "3", "пять", "хочу 5 бутылей", "количество", "51", "да", "нет", "назад", "оставить",
    "отмена", "заново", "/start", "/help", "/refresh", "/foo", "изменить", "", "да, но адрес", "нет, 9 шт", "+", "?",
)  # fmt: skip
some_text = st.sampled_from(SAYINGS) | st.text(max_size=60)


async def checked_say(talk: Talk, *texts: str) -> None:
    """Say it, and check what must always hold."""
    before = talk.known.dialog
    orders = len(talk.orders)
    reply = await talk.say(*texts)
    assert reply.strip()
    assert talk.step in STEPS
    for name, value in talk.slots.items():
        restored = FIELDS[name].restore(value)
        assert FIELDS[name].accepts(restored, READER)
    new = talk.orders[orders:]
    if len(texts) == 1 and new:
        assert before.step == "waiting_confirmation"
        assert vocabulary().says("yes", texts[0])
        assert len(new) == 1
        assert set(new[0]) == {"address", "phone", "bottles"}
        assert talk.step == "completed"
    if talk.step in ("waiting_confirmation", "completed"):
        assert set(talk.slots) == {"address", "phone", "bottles"}


@settings(max_examples=150, deadline=None)
@given(st.lists(some_text, max_size=25))
async def test_no_sequence_of_texts_crashes_or_orders_without_a_yes(texts: list[str]) -> None:
    talk = form_talk()
    for text in texts:
        await checked_say(talk, text)
    assert len(talk.orders) == sum(ended.completed for ended in talk.ended)


@settings(max_examples=75, deadline=None)
@given(st.lists(some_text, max_size=15), st.data())
async def test_grouping_of_messages_into_turns_makes_no_difference(texts: list[str], data: st.DataObject) -> None:
    apart, together = form_talk(), form_talk()
    for text in texts:
        await apart.say(text, seconds=0)
    left = list(texts)
    while left:
        size = data.draw(st.integers(1, len(left)))
        await checked_say(together, *left[:size])
        left = left[size:]
    assert together.orders == apart.orders
    assert (together.step, together.slots) == (apart.step, apart.slots)


@settings(max_examples=75, deadline=None)
@given(st.lists(some_text, max_size=12))
async def test_the_same_input_gives_the_same_plan(texts: list[str]) -> None:
    one, other = form_talk(), form_talk()
    for text in texts:
        assert await one.say(text) == await other.say(text)
    assert one.plans == other.plans


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_cleaning_and_folding_are_stable(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    cleaned = clean(text)
    for token in tokens(cleaned):
        assert fold(cleaned[token.start : token.end]) == token.word


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.sampled_from(["{}", "{} шт", "{} бутылей", "хочу {}", "{}шт.", " {} ", "бутылей: {}"]))
def test_every_allowed_number_is_read_in_every_wording(number: int, wording: str) -> None:
    assert FIELDS["bottles"].read(wording.format(number), READER) == number


@settings(max_examples=200, deadline=None)
@given(
    st.integers(200_000_000, 999_999_999),
    st.sampled_from(["+996{}", "996{}", "0{}", "+996 {}", "тел. 0{}", "(0{})", "{}"]),
)
def test_every_kyrgyz_number_is_normalised(number: int, wording: str) -> None:
    assert FIELDS["phone"].read(wording.format(number), READER) == f"+996{number}"


WATER_LINES = (FORMS / "water_order.yaml").read_text(encoding="utf-8").splitlines()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WATER_LINES) - 1), st.text(max_size=20) | st.sampled_from(["- ", "{", "a: b", "  x: [", ""]))
def test_a_broken_definition_is_a_form_or_a_named_error(at: int, replacement: str) -> None:
    definition = "\n".join([*WATER_LINES[:at], replacement, *WATER_LINES[at + 1 :]])
    failure = None
    try:
        load_form(definition)
    except ParleyError as error:
        failure = error
    assert failure is None or (failure.reason == "INVALID_FORM" and failure.metadata["field"])
