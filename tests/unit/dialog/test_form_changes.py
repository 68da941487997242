"""A form that changes while somebody is in the middle of it."""

from dataclasses import replace

from services.dialog.flows.form_schema import FORMS, load_form
from tests.support.talk import Talk, form_talk
from tests.unit.dialog.water import ADDRESS, BOTTLES, CONFIRMATION, FILLED, at

WATER_YAML = (FORMS / "water_order.yaml").read_text(encoding="utf-8")


async def changed_form(talk: Talk, definition: str) -> Talk:
    changed = form_talk(load_form(definition))
    changed.known = replace(talk.known)
    return changed


async def test_a_changed_form_keeps_the_answers_that_are_still_valid() -> None:
    talk = await changed_form(await at(BOTTLES), WATER_YAML.replace("min_length: 5", "min_length: 50"))
    reply = await talk.say("3")
    assert "Форма изменилась" in reply
    assert "адрес доставки" in reply
    assert (talk.step, talk.slots) == (ADDRESS, {"phone": "+996700123456"})


async def test_an_answer_to_an_unchanged_question_of_a_changed_form_counts() -> None:
    talk = await changed_form(await at(BOTTLES), WATER_YAML.replace("max: 50", "max: 60"))
    await talk.say("55")
    assert (talk.step, talk.slots["bottles"]) == (CONFIRMATION, 55)


async def test_a_yes_to_an_older_summary_is_asked_again() -> None:
    talk = await changed_form(await at(CONFIRMATION), WATER_YAML.replace("Ваш заказ:", "Заказ:"))
    assert "Заказ:\nАдрес" in await talk.say("да")
    assert talk.orders == []
    await talk.say("да")
    assert talk.orders == [FILLED]


async def test_a_dialog_of_another_flow_is_begun_anew() -> None:
    talk = await at(CONFIRMATION)
    talk.known = replace(talk.known, dialog=replace(talk.known.dialog, flow="assistant"))
    assert (await talk.say("да")).startswith("Здравствуйте!")
    assert talk.orders == []
