"""Going back in a form, and correcting an earlier answer."""

import pytest

from tests.unit.dialog.water import ADDRESS, BOTTLES, CONFIRMATION, FILLED, PHONE, STEPS, at, filled_at


@pytest.mark.parametrize(("step", "earlier"), [(PHONE, ADDRESS), (BOTTLES, PHONE), (CONFIRMATION, BOTTLES)])
@pytest.mark.parametrize("text", ["назад", "Назад.", "back", "/back"])
async def test_back_goes_to_the_question_before(step: str, earlier: str, text: str) -> None:
    talk = await at(step)
    reply = await talk.say(text)
    assert "Сейчас: " in reply
    assert (talk.step, talk.slots) == (earlier, filled_at(step))


async def test_back_at_the_first_question_stays_there() -> None:
    talk = await at(ADDRESS)
    assert "первый вопрос" in await talk.say("назад")
    assert talk.step == ADDRESS


async def test_back_twice_and_a_new_answer_returns_to_where_it_was() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("назад")
    await talk.say("назад")
    assert talk.step == PHONE
    await talk.say("0555000111")
    assert talk.step == CONFIRMATION
    assert talk.slots["phone"] == "+996555000111"


async def test_back_and_keep_returns_to_where_it_was() -> None:
    talk = await at(BOTTLES)
    await talk.say("назад")
    await talk.say("оставить")
    assert (talk.step, talk.slots) == (BOTTLES, filled_at(BOTTLES))


CORRECTIONS = [
    ("адрес Новая 5", "address", "Новая 5"),
    ("Адрес: Новая 5, кв. 7", "address", "Новая 5, кв. 7"),
    ("измените адрес на Новая 5", "address", "Новая 5"),
    ("нет, адрес доставки Новая 5", "address", "Новая 5"),
    ("address New Street 5", "address", "New Street 5"),
    ("телефон: +996555000111", "phone", "+996555000111"),
    ("мой номер телефона 0555 000-111", "phone", "+996555000111"),
    ("Phone is 0555000111", "phone", "+996555000111"),
    ("+996 555 000 111", "phone", "+996555000111"),
    ("хочу 5 бутылей вместо 3", "bottles", 5),
    ("количество 7", "bottles", 7),
    ("бутылей: двадцать пять", "bottles", 25),
    ("измени количество бутылей на 10", "bottles", 10),
    ("4 шт", "bottles", 4),
    ("I want 6 bottles instead of 3", "bottles", 6),
]


@pytest.mark.parametrize(
    ("step", "text", "slot", "value"),
    [(step, *correction) for step in STEPS[1:] for correction in CORRECTIONS if correction[1] in filled_at(step)],
)
async def test_an_earlier_answer_is_corrected_in_one_message(step: str, text: str, slot: str, value: object) -> None:
    talk = await at(step)
    reply = await talk.say(text)
    assert reply.startswith("Записал: ")
    assert talk.step == step
    assert talk.slots == {**filled_at(step), slot: value}


REMARKS = [
    ("адрес", "address"),
    ("измени адрес", "address"),
    ("адрес неправильный", "address"),
    ("хочу поменять адрес, пожалуйста", "address"),
    ("другой телефон", "phone"),
    ("нет, телефон другой", "phone"),
    ("change the phone", "phone"),
    ("исправь количество", "bottles"),
]


@pytest.mark.parametrize(
    ("step", "text", "slot"),
    [(step, *remark) for step in STEPS[1:] for remark in REMARKS if remark[1] in filled_at(step)],
)
async def test_a_correction_without_a_value_asks_and_returns(step: str, text: str, slot: str) -> None:
    talk = await at(step)
    reply = await talk.say(text)
    assert "Сейчас: " in reply
    assert talk.step == f"waiting_{slot}"
    assert talk.slots == filled_at(step)
    await talk.say({"address": "Новая 5", "phone": "0555000111", "bottles": "9"}[slot])
    assert talk.step == step
    changed = {"address": "Новая 5", "phone": "+996555000111", "bottles": 9}[slot]
    assert talk.slots == {**filled_at(step), slot: changed}


@pytest.mark.parametrize("step", [BOTTLES, CONFIRMATION])
async def test_a_correction_with_a_bad_value_explains_and_asks(step: str) -> None:
    talk = await at(step)
    assert "+996XXXXXXXXX" in await talk.say("телефон 12345")
    assert talk.step == PHONE
    assert talk.slots == filled_at(step)
    await talk.say("назад")
    assert talk.step == step


async def test_giving_up_a_correction_leaves_the_answer_as_it_was() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("другой адрес")
    await talk.say("назад")
    assert (talk.step, talk.slots) == (CONFIRMATION, FILLED)


async def test_an_answer_given_ahead_is_not_asked_for_again() -> None:
    talk = await at(ADDRESS)
    await talk.say("телефон 0700123456")
    assert (talk.step, talk.slots) == (ADDRESS, {"phone": "+996700123456"})
    await talk.say("ул. Киевская 120")
    assert talk.step == BOTTLES


@pytest.mark.parametrize(
    "address", ["Телефонная улица 5", "номер дома 5, улица Садовая", "Бутылочный завод, 7", "доставить на Ленина 5"]
)
async def test_an_address_that_begins_like_another_slot_is_an_address(address: str) -> None:
    talk = await at(ADDRESS)
    await talk.say(address)
    assert talk.slots == {"address": address}


async def test_address_named_as_such_is_stored_without_its_name() -> None:
    talk = await at(ADDRESS)
    await talk.say("Мой адрес: Киевская 1")
    assert talk.slots == {"address": "Киевская 1"}


async def test_no_asks_what_to_change_and_yes_then_only_shows_the_summary() -> None:
    talk = await at(CONFIRMATION)
    assert "Что исправить" in await talk.say("нет")
    assert "Всё верно?" in await talk.say("да")
    assert talk.orders == []
    await talk.say("да")
    assert talk.orders == [FILLED]


@pytest.mark.parametrize(("text", "changed"), [("7", {"bottles": 7}), ("0555000111", {"phone": "+996555000111"})])
async def test_after_no_a_bare_value_finds_its_slot(text: str, changed: dict[str, object]) -> None:
    talk = await at(CONFIRMATION)
    await talk.say("нет")
    await talk.say(text)
    assert (talk.step, talk.slots) == (CONFIRMATION, FILLED | changed)


async def test_no_with_a_correction_is_understood_at_once() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("нет, 9 бутылок")
    assert (talk.step, talk.slots["bottles"]) == (CONFIRMATION, 9)


@pytest.mark.parametrize("step", [BOTTLES, CONFIRMATION])
async def test_shared_phone_corrects_the_phone_later(step: str) -> None:
    talk = await at(step)
    await talk.send(talk.message("", shared_phone="+996555000111"))
    assert (talk.step, talk.slots["phone"]) == (step, "+996555000111")
