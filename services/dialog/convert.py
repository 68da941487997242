"""Bots of the domain as those of the contract, and back."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import bot_pb2

from services.dialog.domain import AssistantSettings, Bot, FormSettings

DEFAULTS = Bot("", "", FormSettings())


def bot_to_proto(bot: Bot) -> bot_pb2.Bot:
    """As callers see it."""
    made = bot_pb2.Bot(
        tenant_id=bot.tenant_id,
        bot_id=bot.bot_id,
        display_name=bot.display_name,
        locale=bot.locale,
        start_message=bot.start_message,
        help_message=bot.help_message,
        error_message=bot.error_message,
        limit_message=bot.limit_message,
        dialog_ttl=_duration(bot.dialog_ttl),
        answer_late=bot.answer_late,
        owner=bot.owner,
        enabled=bot.enabled,
        broken_reason=bot.broken_reason,
        revision=bot.revision,
    )
    if bot.debounce:
        made.debounce.CopyFrom(_duration(bot.debounce))
    if bot.answer_within is not None:
        made.answer_within.CopyFrom(_duration(bot.answer_within))
    for field, at in ((made.created_at, bot.created_at), (made.updated_at, bot.updated_at)):
        if at is not None:
            field.FromDatetime(at)
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
    return Bot(
        tenant_id=given.tenant_id,
        bot_id=given.bot_id,
        flow=_flow_from_proto(given),
        locale=given.locale or DEFAULTS.locale,
        display_name=given.display_name,
        start_message=given.start_message,
        help_message=given.help_message,
        error_message=given.error_message,
        limit_message=given.limit_message,
        dialog_ttl=given.dialog_ttl.ToTimedelta() if given.HasField("dialog_ttl") else DEFAULTS.dialog_ttl,
        debounce=given.debounce.ToTimedelta(),
        answer_within=given.answer_within.ToTimedelta() if given.HasField("answer_within") else None,
        answer_late=given.answer_late,
        owner=given.owner,
        enabled=given.enabled,
        broken_reason=given.broken_reason,
        revision=given.revision,
        created_at=_time(given, "created_at"),
        updated_at=_time(given, "updated_at"),
    )


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


def _time(given: bot_pb2.Bot, name: str) -> datetime | None:
    value: datetime | None = getattr(given, name).ToDatetime(tzinfo=UTC) if given.HasField(name) else None  # type: ignore[arg-type]
    return value


def _duration(value: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(value)
    return made
