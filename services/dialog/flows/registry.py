"""Which flow decides for a bot. Adding a flow is a settings class in the domain and a line here."""

from collections.abc import Callable

from cachetools import LRUCache

from services.dialog.domain.bots import (
    Bot,
    FlowSettings,
    FormSettings,
    UnknownFlow,
)
from services.dialog.domain.flows import Flow
from services.dialog.flows.assistant import AssistantFlow
from services.dialog.flows.form import FormFlow
from services.dialog.flows.form_schema import LoadedForm, load_bundled_form, load_form
from services.dialog.model import Model
from services.kernel.errors import Kind, ParleyError

KEPT = 512
"""Flows of bots that are kept ready; the least recently used goes first."""


def make_flows(model: Model, *, kept: int = KEPT) -> Callable[[Bot], Flow]:
    """A function from a bot to its flow, made ready once and again when the bot's flow or locale changes.

    It raises ParleyError INVALID_FORM or FORM_NOT_FOUND for a form that cannot be loaded; bots are checked by
    `check_flow` when they are stored.
    """
    ready: LRUCache[tuple[str, str], tuple[Bot, Flow]] = LRUCache(kept)

    def flow_for(bot: Bot) -> Flow:
        key = (bot.tenant_id, bot.bot_id)
        made = ready.get(key)
        # A bot that is deleted and created again counts its revisions anew.
        if made and (made[0] is bot or (made[0].flow, made[0].locale) == (bot.flow, bot.locale)):
            return made[1]
        flow = _make(bot, model)
        ready[key] = (bot, flow)
        return flow

    return flow_for


def check_flow(settings: FlowSettings) -> None:
    """Raise ParleyError INVALID_FORM (the message names the key) or FORM_NOT_FOUND."""
    if isinstance(settings, FormSettings):
        _load(settings)


def _make(bot: Bot, model: Model) -> Flow:
    if isinstance(bot.flow, FormSettings):
        return FormFlow(_load(bot.flow), bot.locale)
    if isinstance(bot.flow, UnknownFlow):
        raise ParleyError(Kind.PRECONDITION, "UNREADABLE", f"The flow {bot.flow.name!r} is not known to this version.")
    return AssistantFlow(bot.flow, model)


def _load(settings: FormSettings) -> LoadedForm:
    if settings.definition_yaml:
        return load_form(settings.definition_yaml)
    return load_bundled_form(settings.form_id)
