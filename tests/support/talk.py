"""A person and a flow in one process: no queue, no network. What is remembered goes through JSON, as it does really."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.dialog.domain.bots import Bot, FormSettings
from services.dialog.domain.flows import (
    Act,
    Budget,
    Dialog,
    Ended,
    Flow,
    HistoryEntry,
    Inbound,
    Known,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.flows.form import FormFlow
from services.dialog.flows.form_schema import LoadedForm, load_bundled_form
from services.dialog.flows.form_state import slots_of
from services.dialog.usecases.journal import as_json

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WATER = Bot("demo", "water", FormSettings("water-order"), locale="ru")


class MemoryJournal:
    """Remembers steps; `calls` lists those that really ran."""

    def __init__(self) -> None:
        self.results: dict[str, Mapping[str, Any]] = {}
        self.requests: dict[str, Mapping[str, Any]] = {}
        self.calls: list[str] = []
        self.acts: dict[str, Act] = {}

    async def call(
        self, step: str, request: Mapping[str, Any], run: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> Mapping[str, Any]:
        if step not in self.results:
            self.calls.append(step)
            self.requests[step] = request
            self.results[step] = as_json(await run())
        return self.results[step]

    async def act(self, step: str, act: Act) -> Mapping[str, Any]:
        self.acts.setdefault(step, act)
        return as_json(self.acts[step].result)


class MemoryPreviews:
    """Keeps what was shown; a reset empties it."""

    def __init__(self) -> None:
        self.text = ""
        self.resets = 0

    async def delta(self, text: str) -> None:
        self.text += text

    async def reset(self) -> None:
        self.text = ""
        self.resets += 1


def tools_on(journal: MemoryJournal, previews: MemoryPreviews) -> TurnTools:
    """Tools of an attempt that is not the last one, with enough of everything."""
    return TurnTools(journal, previews, lambda: Budget(100, 60.0, 1_000_000, 1_000_000), lambda error: False)


@dataclass
class Talk:
    """A conversation with a flow, kept as the context service would keep it."""

    flow: Flow
    bot: Bot = WATER
    known: Known = field(default_factory=Known)
    now: datetime = START
    plans: list[TurnPlan] = field(default_factory=list)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    previews: MemoryPreviews = field(default_factory=MemoryPreviews)

    async def say(self, *texts: str, seconds: float = 10) -> str:
        """Say one text or several in one turn: the reply, several joined by a line."""
        return await self.send(*(self.message(text) for text in texts), seconds=seconds)

    async def send(self, *messages: Inbound, seconds: float = 10) -> str:
        self.now += timedelta(seconds=seconds)
        self.journal = MemoryJournal()
        turn = TurnInput(f"turn-{len(self.plans)}", self.bot, messages, self.known, self.now, "KG")
        tools = tools_on(self.journal, self.previews)
        plan = await self.flow.prepare(turn, tools) or await self.flow.decide(turn, tools)
        self.plans.append(plan)
        dialog = self.known.dialog if plan.dialog is None else stored(plan.dialog)
        kept: list[HistoryEntry] = [] if plan.clear_history else [*self.known.history]
        self.known = replace(self.known, dialog=dialog, history=[*kept, *plan.remember])
        return "\n".join(reply.text for reply in plan.replies)

    def message(self, text: str, **values: Any) -> Inbound:
        return Inbound(f"m{len(self.plans)}", text, self.now, **values)

    @property
    def step(self) -> str:
        return self.known.dialog.step

    @property
    def slots(self) -> dict[str, Any]:
        return dict(slots_of(self.known.dialog))

    @property
    def orders(self) -> list[dict[str, Any]]:
        return [dict(order.fields) for plan in self.plans for order in plan.orders]

    @property
    def ended(self) -> list[Ended]:
        return [plan.ended for plan in self.plans if plan.ended]


def form_talk(loaded: LoadedForm | None = None, *, locale: str = "ru", **bot: Any) -> Talk:
    """A talk with the water order, or another form."""
    return Talk(FormFlow(loaded or load_bundled_form("water-order"), locale), replace(WATER, locale=locale, **bot))


def stored(dialog: Dialog) -> Dialog:
    """A dialog after the way through the context service, where all numbers become floats."""
    return replace(dialog, slots=through_json(dict(dialog.slots)))


def through_json(values: dict[str, Any]) -> dict[str, Any]:
    struct = Struct()
    struct.update(values)
    result: dict[str, Any] = MessageToDict(struct)
    return result
