"""The form flow: asks for slots one after the other, has them confirmed, and makes one order. Knows no subject."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from services.dialog.domain.flows import (
    Ended,
    Inbound,
    OrderDraft,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.flows.form_reading import (
    Answer,
    Command,
    Confirmation,
    Correction,
    Intent,
    Nothing,
    Position,
    read_command,
    read_message,
)
from services.dialog.flows.form_schema import LoadedForm
from services.dialog.flows.form_slots import Field, Reader, compile_fields
from services.dialog.flows.form_state import (
    COMPLETED,
    INITIAL,
    State,
    next_step,
    restore,
    to_dialog,
)
from services.dialog.flows.form_texts import FormTexts
from services.dialog.texts import fallbacks
from services.runtime.content import of_text


@dataclass
class Course:
    """A turn under way: what it depends on, and what it has to say and do so far."""

    turn: TurnInput
    reader: Reader
    said: list[str] = field(default_factory=list)
    prompt: str = ""
    """What is asked now; what a later message of the same turn makes of it replaces it."""
    orders: list[OrderDraft] = field(default_factory=list)
    ended: Ended | None = None
    clear_history: bool = False

    def reply(self) -> str:
        return "\n\n".join(filter(None, [*self.said, self.prompt]))


class FormFlow:
    """Decides by a form, in the language of a bot.

    A turn with several messages gives the same dialog and orders as one turn for each: messages are taken in order,
    and all is said in one reply.
    """

    def __init__(self, loaded: LoadedForm, locale: str) -> None:
        self.form = loaded.form
        self.version = loaded.version
        spoken = (name for name in fallbacks(locale) if name in self.form.slots[0].ask)
        self.locale = next(spoken, self.form.default_locale)
        self.fields = compile_fields(loaded, self.locale)
        self.texts = FormTexts(self.form, self.fields, self.locale)
        self._by_step = {field.step: field for field in self.fields}
        self._zone = ZoneInfo(self.form.time_zone)

    async def prepare(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        """Forms are free, so all of a turn is decided here."""
        return await self.decide(turn, tools)

    async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        """Take the turn's messages in order. Pure: `tools` are not used."""
        reader = Reader(self.form.region or turn.default_region, turn.now.astimezone(self._zone).date())
        course = Course(turn, reader)
        dialog = turn.known.dialog
        confirmation = self.form.confirmation_step
        state = begun = restore(dialog, self.form.form_id, self.version, self.fields, confirmation, turn.now)
        for index, message in enumerate(turn.messages):
            if index:
                await asyncio.sleep(0)  # others get their turn on the loop between two messages
            state = self._take(state, message, course) if state.is_open else self._open(state, message, course)
        changed = to_dialog(state, self.form.form_id, self.version, dialog.thread_id)
        return TurnPlan(
            replies=[of_text(course.reply())],
            dialog=None if state is begun else changed,
            clear_history=course.clear_history,
            orders=course.orders,
            ended=course.ended,
            open=state.open(turn.now),
        )

    def _open(self, state: State, message: Inbound, course: Course) -> State:
        """A first message is greeted whatever it says; but help is given, and a completed form is not cancelled."""
        command = read_command(message)
        course.prompt = ""
        if command == "help":
            course.said.append(self._help(course))
            return state
        if command == "cancel" and state.step == COMPLETED:
            course.said.append(self.texts.say("already_completed", state.slots))
            return state
        course.clear_history = course.clear_history or command == "refresh"
        return self._begin(self._greeting(course), course)

    def _begin(self, opening: str, course: Course) -> State:
        state = State(self.fields[0].step, course.turn.now, message_count=1)
        course.said.append(opening)
        course.prompt = self.texts.prompt(state)
        return state

    def _take(self, state: State, message: Inbound, course: Course) -> State:
        """One message of a dialog that is under way."""
        place = Position(self.fields, self._by_step.get(state.step), frozenset(state.slots), state.choosing)
        intent = read_message(message, place, course.reader)
        if isinstance(intent, Command) and intent.name in ("help", "unknown"):
            course.said.append(self._help(course) if intent.name == "help" else self.texts.unknown_command)
            course.prompt = self.texts.prompt(state)
            return state
        state = replace(state, message_count=state.message_count + 1)
        if state.stale and not isinstance(intent, Command):
            revised = self._revised(state, course.reader)
            if revised.step != state.step or revised.step == self.form.confirmation_step:
                # The message answers a question of the older form.
                course.said.append(self.texts.say("revised"))
                course.prompt = self.texts.prompt(revised)
                return revised
            state = revised
        course.prompt = ""
        state = self._follow(state, intent, course)
        course.prompt = course.prompt or (self.texts.prompt(state) if state.is_open else "")
        return state

    def _follow(self, state: State, intent: Intent, course: Course) -> State:
        match intent:
            case Command(name):
                return self._obey(state, name, course)
            case Confirmation(yes=True) if not state.choosing:
                return self._complete(state, course)
            case Confirmation(yes):
                return replace(state, choosing=not yes)
            case Answer(value):
                state = self._filled(state, self._by_step[state.step], value, course)
                return replace(state, step=self._next_step(state.slots), return_to="")
            case Correction(named, value, invalid):
                return self._correct(state, named, value, invalid, course)
            case Nothing(unreadable):
                course.prompt = self.texts.puzzled(state, unreadable=unreadable)
        return state

    def _obey(self, state: State, name: str, course: Course) -> State:
        match name:
            case "start" | "refresh" | "restart":
                course.ended = state.ended(course.turn.now)
                course.clear_history = course.clear_history or name == "refresh"
                return self._begin(self._greeting(course) if name == "start" else self.texts.say("restarted"), course)
            case "cancel":
                course.ended = state.ended(course.turn.now)
                course.said.append(self.texts.say("cancelled", state.slots))
                return State(INITIAL, course.turn.now)
            case "greet":
                return state
            case "change":
                course.prompt = self.texts.say("choose")
                return replace(state, choosing=state.step == self.form.confirmation_step)
            case "back":
                return self._back(state, course)
            case "skip":
                slots = {**state.slots, self._by_step[state.step].name: None}
                return replace(state, slots=slots, step=self._next_step(slots), return_to="")
        return replace(state, step=self._next_step(state.slots), return_to="")  # keep

    def _back(self, state: State, course: Course) -> State:
        if state.return_to:
            return replace(state, step=state.return_to, return_to="")
        if state.choosing:
            return replace(state, choosing=False)
        steps = [*self._by_step, self.form.confirmation_step]
        at = steps.index(state.step)
        if at == 0:
            course.said.append(self.texts.say("first_question"))
        return replace(state, step=steps[max(at - 1, 0)])

    def _correct(self, state: State, named: Field, value: Any, invalid: bool, course: Course) -> State:
        if value is not None:
            course.said.append(self.texts.changed(named, value))
            return replace(state, slots={**state.slots, named.name: value}, choosing=False)
        if invalid:
            course.prompt = named.invalid
        if named.step == state.step:
            return state
        return replace(state, step=named.step, return_to=state.return_to or state.step, choosing=False)

    def _filled(self, state: State, named: Field, value: Any, course: Course) -> State:
        if named.name in state.slots:
            course.said.append(self.texts.changed(named, value))
        return replace(state, slots={**state.slots, named.name: value})

    def _complete(self, state: State, course: Course) -> State:
        revised = self._revised(state, course.reader)
        if revised.step != state.step:  # a slot holds no longer, for example a date that has passed
            return revised
        fields = {name: value for name, value in state.slots.items() if value is not None}
        course.orders.append(OrderDraft(self.form.form_id, fields))
        course.ended = state.ended(course.turn.now, completed=True)
        course.said.append(self.texts.say("completed", state.slots))
        return replace(state, step=COMPLETED, return_to="", choosing=False)

    def _revised(self, state: State, reader: Reader) -> State:
        """The state with the slots that this form accepts only, at the first that is missing."""
        slots = {}
        for named in self.fields:
            value = state.slots.get(named.name)
            skipped = value is None and named.slot.optional and named.name in state.slots
            if skipped or named.accepts(value, reader):
                slots[named.name] = value
        step = state.step if slots == state.slots and not state.stale else self._next_step(slots)
        return replace(state, step=step, slots=slots, return_to="", choosing=False, stale=False)

    def _next_step(self, slots: Mapping[str, Any]) -> str:
        return next_step(self.fields, slots, self.form.confirmation_step)

    def _greeting(self, course: Course) -> str:
        return course.turn.bot.start_message or self.texts.say("greeting")

    def _help(self, course: Course) -> str:
        return course.turn.bot.help_message or self.texts.say("help")
