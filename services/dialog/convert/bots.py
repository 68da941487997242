"""Bots of the domain as those of the contract, and back. Fields that are named alike are taken as they are."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley.dialog.v1 import bot_pb2

from services.dialog.domain.bots import AssistantSettings, Bot, FormSettings

DEFAULTS = Bot("", "", FormSettings())
_PLAIN = [each.name for each in fields(Bot) if each.name != "flow"]


def bot_to_proto(bot: Bot) -> bot_pb2.Bot:
    """As callers see it. What is None, and a time of zero, is absent."""
    made = bot_pb2.Bot()
    for name in _PLAIN:
        value = getattr(bot, name)
        if isinstance(value, datetime):
            getattr(made, name).FromDatetime(value)
        elif isinstance(value, timedelta):
            if value:
                getattr(made, name).FromTimedelta(value)
        elif value is not None:
            setattr(made, name, value)
    if isinstance(bot.flow, AssistantSettings):
        _assistant_to_proto(bot.flow, made.assistant)
    elif isinstance(bot.flow, FormSettings):
        if bot.flow.definition_yaml:
            made.form.definition_yaml = bot.flow.definition_yaml
        else:
            made.form.form_id = bot.flow.form_id
    return made


def bot_from_proto(given: bot_pb2.Bot) -> Bot:
    """What an owner sets, with defaults for what is absent; what the service writes is taken along too."""
    return Bot(flow=_flow_from_proto(given), **{name: _plain(given, name) for name in _PLAIN})


def _plain(given: bot_pb2.Bot, name: str) -> Any:
    value = getattr(given, name)
    if isinstance(value, Duration | Timestamp):
        if not given.HasField(name):  # type: ignore[arg-type]
            return getattr(DEFAULTS, name)
        return value.ToTimedelta() if isinstance(value, Duration) else value.ToDatetime(tzinfo=UTC)
    return getattr(DEFAULTS, name) if value == "" else value


def _flow_from_proto(given: bot_pb2.Bot) -> FormSettings | AssistantSettings:
    if given.WhichOneof("flow") != "assistant":
        return FormSettings(form_id=given.form.form_id, definition_yaml=given.form.definition_yaml)
    flow = given.assistant
    usual = AssistantSettings(flow.system_prompt)
    return AssistantSettings(
        system_prompt=flow.system_prompt,
        model=flow.model,
        history_messages=flow.history_messages if flow.HasField("history_messages") else usual.history_messages,
        max_output_tokens=flow.max_output_tokens or usual.max_output_tokens,
        timeout=flow.timeout.ToTimedelta() if flow.HasField("timeout") else usual.timeout,
    )


def _assistant_to_proto(flow: AssistantSettings, made: bot_pb2.AssistantFlow) -> None:
    made.system_prompt = flow.system_prompt
    made.model = flow.model
    made.history_messages = flow.history_messages
    made.max_output_tokens = flow.max_output_tokens
    made.timeout.FromTimedelta(flow.timeout)
