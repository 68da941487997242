"""The water order, step by step."""

from datetime import timedelta

import pytest

from services.dialog.domain.flows import Open
from tests.support.talk import START, form_talk
from tests.unit.dialog.water import ADDRESS, BOTTLES, CONFIRMATION, FILLED, PHONE, STEPS, at, filled_at


@pytest.mark.parametrize("text", ["привет", "/start", "да", "отмена", "назад", "адрес Киевская 1", "", "/foo", "😀"])
async def test_first_message_is_greeted_whatever_it_says(text: str) -> None:
    talk = form_talk()
    reply = await talk.say(text)
    assert reply.startswith("Здравствуйте! Это служба доставки воды")
    assert "адрес доставки" in reply
    assert (talk.step, talk.slots, talk.orders) == (ADDRESS, {}, [])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["Здравствуйте!", "добрый день", "Салам 🙏", "Good morning", "hello, please"])
async def test_a_later_greeting_is_no_answer(step: str, text: str) -> None:
    talk = await at(step)
    asked = talk.plans[-1].replies[0].text
    reply = await talk.say(text)
    assert asked.endswith(reply)
    assert (talk.step, talk.slots, talk.orders) == (step, filled_at(step), [])


async def test_whole_order_is_written_once_after_the_yes() -> None:
    talk = await at(CONFIRMATION)
    assert talk.orders == []
    await talk.say("что?")
    reply = await talk.say("да")
    assert "Заказ принят" in reply
    assert "+996700123456" in reply
    assert talk.orders == [FILLED]
    assert talk.step == "completed"
    [ended] = talk.ended
    assert (ended.completed, ended.dropoff_step, ended.message_count) == (True, "", 6)
    assert ended.duration == timedelta(seconds=50)


async def test_summary_shows_all_that_was_said() -> None:
    talk = await at(BOTTLES)
    reply = await talk.say("3 шт")
    assert reply == (
        "Ваш заказ:\nАдрес: ул. Киевская 120\nТелефон: +996700123456\nБутылей: 3\n\nВсё верно? Ответьте «да» или «нет»."
    )


async def test_after_completion_a_new_message_starts_a_new_order() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("да")
    assert (await talk.say("да")).startswith("Здравствуйте!")
    assert (talk.step, talk.slots, len(talk.orders)) == (ADDRESS, {}, 1)


async def test_a_completed_order_cannot_be_cancelled_by_a_message() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("да")
    assert "уже принят" in await talk.say("отмена")
    assert (talk.step, len(talk.orders)) == ("completed", 1)


@pytest.mark.parametrize(
    ("step", "text", "told"),
    [
        (ADDRESS, "Киев", "от 5 до 200"),
        (ADDRESS, "!!!!!!", "от 5 до 200"),
        (ADDRESS, "я" * 201, "от 5 до 200"),
        (ADDRESS, "я" * 100_000, "от 5 до 200"),
        (PHONE, "привет", "+996XXXXXXXXX"),
        (PHONE, "0700 12", "+996XXXXXXXXX"),
        (PHONE, "+7 916 123-45-67", "+996XXXXXXXXX"),
        (PHONE, "0700123456 или 0555123456", "+996XXXXXXXXX"),
        (BOTTLES, "много", "от 1 до 50"),
        (BOTTLES, "0", "от 1 до 50"),
        (BOTTLES, "51", "от 1 до 50"),
        (BOTTLES, "-3", "от 1 до 50"),
        (BOTTLES, "3.5", "от 1 до 50"),
        (BOTTLES, "3 или 5", "от 1 до 50"),
        (BOTTLES, "да", "от 1 до 50"),
        (CONFIRMATION, "может быть", "«да»"),
        (CONFIRMATION, "да нет", "«да»"),
        (CONFIRMATION, "да или нет", "«да»"),
        (CONFIRMATION, "не да", "«да»"),
        (CONFIRMATION, "асдф" * 5000, "«да»"),
    ],
)
async def test_what_is_not_valid_is_explained_and_asked_again(step: str, text: str, told: str) -> None:
    talk = await at(step)
    assert told in await talk.say(text)
    assert (talk.step, talk.slots, talk.orders) == (step, filled_at(step), [])


@pytest.mark.parametrize("step", STEPS)
async def test_a_file_instead_of_an_answer_is_asked_for_as_text(step: str) -> None:
    talk = await at(step)
    reply = await talk.send(talk.message("", attachments=1))
    assert "ответьте, пожалуйста, текстом" in reply
    assert (talk.step, talk.slots) == (step, filled_at(step))


@pytest.mark.parametrize("step", STEPS)
async def test_empty_text_changes_nothing(step: str) -> None:
    talk = await at(step)
    assert await talk.say("  \u200b\n ")
    assert (talk.step, talk.slots) == (step, filled_at(step))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["/help", "помощь", "?", "/HELP@water_bot"])
async def test_help_changes_nothing_and_asks_again(step: str, text: str) -> None:
    talk = await at(step)
    before = talk.known
    reply = await talk.say(text)
    assert reply.startswith("Отвечайте на вопросы по очереди")
    assert talk.plans[-1].dialog is None
    assert talk.known == before


async def test_help_before_anything_else_is_given_without_beginning() -> None:
    talk = form_talk(help_message="Звоните 100")
    assert await talk.say("/help") == "Звоните 100"
    assert talk.step == ""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["отмена", "Отмена!", "отмените заказ, пожалуйста", "/cancel", "cancel", "стоп"])
async def test_cancelling_ends_and_records_the_step(step: str, text: str) -> None:
    talk = await at(step)
    assert "отменён" in await talk.say(text)
    [ended] = talk.ended
    assert (ended.completed, ended.dropoff_step) == (False, step)
    assert ended.message_count == STEPS.index(step) + 2
    assert (talk.slots, talk.orders) == ({}, [])
    assert (await talk.say("отмена")).startswith("Здравствуйте!")
    assert talk.step == ADDRESS


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["заново", "начать сначала", "restart", "/start", "/refresh", "/start payload"])
async def test_starting_again_forgets_the_answers(step: str, text: str) -> None:
    talk = await at(step)
    assert "адрес доставки" in await talk.say(text)
    assert (talk.step, talk.slots, talk.orders) == (ADDRESS, {}, [])
    [ended] = talk.ended
    assert (ended.completed, ended.dropoff_step) == (False, step)
    assert talk.plans[-1].clear_history == (text == "/refresh")
    assert talk.known.dialog.message_count == 1


async def test_start_message_of_the_bot_replaces_the_greeting() -> None:
    talk = form_talk(start_message="Салам!")
    assert (await talk.say("привет")).startswith("Салам!\n\n")


async def test_yes_but_is_no_yes() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("да, но адрес другой")
    assert (talk.step, talk.orders) == (ADDRESS, [])


YES = [
    "да",
    "Да!",
    "ок",
    "ОК.",
    "подтверждаю",
    "+",
    "yes",
    "👍",
    "да, всё верно",
    "да спасибо",
    "все верно",
    "Верно 👍🏻",
]


@pytest.mark.parametrize("text", YES)
async def test_ways_to_say_yes(text: str) -> None:
    talk = await at(CONFIRMATION)
    await talk.say(text)
    assert talk.orders == [FILLED]


@pytest.mark.parametrize("text", ["нет", "Нет.", "no", "неверно", "не так", "нет, спасибо", "👎"])
async def test_ways_to_say_no(text: str) -> None:
    talk = await at(CONFIRMATION)
    assert "Что исправить" in await talk.say(text)
    assert talk.orders == []


async def test_shared_phone_answers_the_phone_question() -> None:
    talk = await at(PHONE)
    await talk.send(talk.message("", shared_phone="996700123456"))
    assert (talk.step, talk.slots["phone"]) == (BOTTLES, "+996700123456")


async def test_button_data_is_read_before_its_title() -> None:
    talk = await at(CONFIRMATION)
    await talk.send(talk.message("Подтвердить заказ", button_data="yes"))
    assert talk.orders == [FILLED]


async def test_title_of_a_button_with_unknown_data_is_read() -> None:
    talk = await at(CONFIRMATION)
    await talk.send(talk.message("да", button_data="btn-1"))
    assert talk.orders == [FILLED]


async def test_several_messages_in_one_turn_end_where_single_turns_do() -> None:
    together, apart = form_talk(), form_talk()
    texts = ["привет", "Киевская 120", "0700123456", "5 шт", "да"]
    reply = await together.say(*texts)
    for text in texts:
        last = await apart.say(text)
    assert together.orders == apart.orders
    assert together.step == apart.step == "completed"
    assert reply.startswith("Здравствуйте!")
    assert reply.endswith(last)
    assert "Сколько бутылей" not in reply


async def test_english_bot_speaks_english_and_understands_both() -> None:
    talk = form_talk(locale="en-GB")
    assert "Hello! This is the water delivery" in await talk.say("hi")
    assert "phone number" in await talk.say("Kievskaya 120")
    assert "How many" in await talk.say("+996700123456")
    assert "Is this right?" in await talk.say("three bottles")
    assert "Noted: number of bottles is 4." in await talk.say("количество 4")
    await talk.say("yes please")
    assert talk.orders[0]["bottles"] == 4


async def test_unknown_locale_speaks_the_forms_default() -> None:
    talk = form_talk(locale="ky")
    assert (await talk.say("салам")).startswith("Здравствуйте!")


async def test_forms_never_need_the_model() -> None:
    talk = await at(CONFIRMATION)
    await talk.say("да")
    assert not any(plan.charge_quota for plan in talk.plans)
    assert all(len(plan.replies) == 1 and plan.replies[0].text for plan in talk.plans)


@pytest.mark.parametrize("step", STEPS)
async def test_ops_6_a_form_tells_what_it_waits_for_in_case_nobody_ever_answers(step: str) -> None:
    talk = await at(step)
    began = START + timedelta(seconds=10)
    now = START + len(talk.plans) * timedelta(seconds=10)
    assert talk.plans[-1].open == Open(step, len(talk.plans), began, now)


@pytest.mark.parametrize("last", ["да", "/cancel"])
async def test_a_form_that_is_over_waits_for_nothing(last: str) -> None:
    talk = await at(CONFIRMATION)
    await talk.say(last)
    assert talk.plans[-1].open is None
    assert len(talk.ended) == 1
