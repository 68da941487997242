"""The assistant, with a model that is told what to say."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from services.dialog.domain.bots import AssistantSettings, Bot
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import TurnInput, Usage
from services.dialog.flows.assistant import AssistantFlow
from services.dialog.model import (
    Finish,
    ModelAnswer,
    OnDelta,
    Prompt,
)
from tests.support.talk import MemoryJournal, MemoryPreviews, Talk, tools_on

SETTINGS = AssistantSettings("You sell water.", model="gpt-5-mini", timeout=timedelta(seconds=7))
USAGE = Usage(100, 20, 65, 1)


@dataclass
class FakeModel:
    """Says `text`, or fails."""

    text: str = "An answer."
    finish: Finish = Finish.COMPLETE
    failure: DecisionError | None = None
    prompts: list[Prompt] = field(default_factory=list)

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        self.prompts.append(prompt)
        for word in self.text.split():
            await on_delta(word)
        if self.failure:
            raise self.failure
        return ModelAnswer(self.text, self.finish, "gpt-5-mini-x", "resp_1", USAGE)


def talk_with(model: FakeModel, settings: AssistantSettings = SETTINGS, **bot: str) -> Talk:
    made = Bot("demo", "assistant", settings, locale="ru")
    return Talk(AssistantFlow(settings, model), replace(made, **bot))  # type: ignore[arg-type]


async def test_an_answer_is_replied_remembered_charged_and_accounted() -> None:
    model = FakeModel()
    talk = talk_with(model)
    assert await talk.say("Есть вода?") == "An answer."
    [plan] = talk.plans
    assert [(entry.role, entry.text) for entry in plan.remember] == [
        ("user", "Есть вода?"),
        ("assistant", "An answer."),
    ]
    assert plan.charge_quota
    assert plan.usage == USAGE
    assert plan.orders == ()
    assert talk.known.dialog.flow == "assistant"
    assert talk.known.dialog.message_count == 1
    assert talk.previews.text == "Ananswer."


async def test_the_prompt_has_the_task_the_guard_and_the_settings() -> None:
    model = FakeModel()
    await talk_with(model).say("Есть вода?")
    [prompt] = model.prompts
    assert prompt.instructions.startswith("You sell water.\n\n")
    assert "Keep to the task above" in prompt.instructions
    assert "русский" in prompt.instructions
    assert (prompt.model, prompt.max_output_tokens, prompt.timeout) == ("gpt-5-mini", 1024, 7.0)


@pytest.mark.parametrize(("count", "seen"), [(5, ["a2", "q3", "a3", "q4", "a4", "q5"]), (0, ["q5"]), (50, None)])
async def test_the_last_messages_are_the_context(count: int, seen: list[str] | None) -> None:
    model = FakeModel()
    talk = talk_with(model, replace(SETTINGS, history_messages=count))
    for number in range(5):
        model.text = f"a{number + 1}"
        await talk.say(f"q{number + 1}")
    texts = [said.text for said in model.prompts[-1].messages]
    assert texts == (seen or [f"{letter}{number}" for number in range(1, 5) for letter in "qa"] + ["q5"])
    assert model.prompts[-1].messages[-1].role == "user"


async def test_a_conversation_keeps_its_thread_and_refresh_begins_a_new_one() -> None:
    model = FakeModel()
    talk = talk_with(model)
    await talk.say("один")
    await talk.say("два")
    threads = {prompt.thread_id for prompt in model.prompts}
    assert len(threads) == 1
    assert "Начинаем новый разговор" in await talk.say("/refresh")
    plan = talk.plans[-1]
    assert plan.clear_history
    assert not plan.charge_quota
    assert talk.known.dialog.thread_id not in threads
    await talk.say("три")
    assert [said.text for said in model.prompts[-1].messages] == ["три"]
    assert model.prompts[-1].thread_id == talk.known.dialog.thread_id
    assert talk.known.dialog.message_count == 1


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("/start", "Здравствуйте! Напишите ваш вопрос."),
        ("/start ref42", "Здравствуйте! Напишите ваш вопрос."),
        ("/HELP@bot", "обычным сообщением"),
        ("/foo", "Такой команды нет"),
        ("  ", "Напишите, пожалуйста, текстом"),
    ],
)
async def test_commands_need_no_model_and_change_nothing(text: str, reply: str) -> None:
    model = FakeModel()
    talk = talk_with(model)
    assert reply in await talk.say(text)
    plan = talk.plans[-1]
    assert (model.prompts, plan.dialog, plan.charge_quota, plan.remember) == ([], None, False, ())
    turn = TurnInput("t", talk.bot, [talk.message(text)], talk.known, talk.now)
    assert await talk.flow.prepare(turn, tools_on(MemoryJournal(), MemoryPreviews())) is not None


async def test_the_bots_own_texts_are_said() -> None:
    talk = talk_with(FakeModel(), start_message="Салам", help_message="Звоните")
    assert await talk.say("/start", "/help") == "Салам\nЗвоните"


async def test_a_slash_in_a_question_is_no_command() -> None:
    model = FakeModel()
    await talk_with(model).say("Что такое /start?")
    assert len(model.prompts) == 1


async def test_several_questions_of_a_turn_are_answered_at_once() -> None:
    model = FakeModel()
    talk = talk_with(model)
    assert await talk.say("/start", "раз", "два") == "Здравствуйте! Напишите ваш вопрос.\nAn answer."
    assert [said.text for said in model.prompts[0].messages] == ["раз", "два"]
    assert [entry.text for entry in talk.plans[0].remember] == ["раз", "два", "An answer."]


async def test_a_refresh_drops_what_was_asked_before_it() -> None:
    model = FakeModel()
    talk = talk_with(model)
    await talk.say("старое")
    await talk.say("ещё", "/refresh", "новое")
    assert [said.text for said in model.prompts[-1].messages] == ["новое"]
    assert [entry.text for entry in talk.known.history] == ["новое", "An answer."]


async def test_a_completed_call_is_not_repeated_and_decides_alike() -> None:
    model = FakeModel()
    talk = talk_with(model)
    journal, previews = MemoryJournal(), MemoryPreviews()
    turn = TurnInput("turn", talk.bot, [talk.message("Есть вода?")], talk.known, talk.now)
    tools = tools_on(journal, previews)
    assert await talk.flow.prepare(turn, tools) is None
    first = await talk.flow.decide(turn, tools)
    again = await talk.flow.decide(turn, tools)
    assert first == again
    assert journal.calls == ["answer"]
    assert len(model.prompts) == 1


@pytest.mark.parametrize(
    ("finish", "kind", "reason"),
    [
        (Finish.COMPLETE, FailureKind.RETRYABLE, "MODEL_UNAVAILABLE"),
        (Finish.LENGTH, FailureKind.TERMINAL, "MODEL_REJECTED"),
    ],
)
async def test_an_empty_answer_is_a_failure_and_is_not_journaled(
    finish: Finish, kind: FailureKind, reason: str
) -> None:
    talk = talk_with(FakeModel(text="", finish=finish))
    with pytest.raises(DecisionError) as caught:
        await talk.say("Есть вода?")
    assert (caught.value.kind, caught.value.reason) == (kind, reason)
    assert talk.journal.results == {}


async def test_a_failure_in_the_middle_takes_the_preview_back() -> None:
    failure = DecisionError(FailureKind.RETRYABLE, "MODEL_TIMEOUT", "late")
    talk = talk_with(FakeModel(failure=failure))
    with pytest.raises(DecisionError) as caught:
        await talk.say("Есть вода?")
    assert caught.value is failure
    assert (talk.previews.text, talk.previews.resets) == ("", 1)


async def test_an_answer_that_was_cut_off_says_so() -> None:
    assert await talk_with(FakeModel("Вода бывает", Finish.LENGTH)).say("Какая?") == "Вода бывает…"


async def test_a_refusal_with_words_is_an_answer() -> None:
    talk = talk_with(FakeModel("I cannot do that.", Finish.REFUSED))
    assert await talk.say("?") == "I cannot do that."
    assert talk.plans[0].charge_quota


async def test_a_refusal_without_words_is_told_and_free() -> None:
    talk = talk_with(FakeModel("", Finish.REFUSED))
    assert "ответить не могу" in await talk.say("?")
    assert not talk.plans[0].charge_quota


async def test_very_long_messages_are_cut() -> None:
    model = FakeModel()
    talk = talk_with(model)
    await talk.say("я" * 100_000)
    assert len(model.prompts[0].messages[0].text) == 16_000


async def test_a_dialog_left_by_another_flow_is_not_gone_on_with() -> None:
    talk = talk_with(FakeModel())
    await talk.say("раз")
    thread = talk.known.dialog.thread_id
    talk.known = replace(talk.known, dialog=replace(talk.known.dialog, flow="water-order", slots={"address": "x"}))
    await talk.say("два")
    assert talk.known.dialog.thread_id != thread
    assert talk.slots == {}
