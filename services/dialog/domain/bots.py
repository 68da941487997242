"""Bots and the settings of their flows."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta


@dataclass(frozen=True)
class FormSettings:
    """A form flow: exactly one of the two is set."""

    form_id: str = ""
    definition_yaml: str = ""


@dataclass(frozen=True)
class AssistantSettings:
    """An assistant flow. Empty `model` means the service's default."""

    system_prompt: str
    model: str = ""
    history_messages: int = 5
    max_output_tokens: int = 1024
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True)
class UnknownFlow:
    """A flow, or a way to write one, that this version does not know: a newer one has stored it.

    `settings` are the bot's as stored, so that they are kept when the bot is enabled or disabled here.
    """

    name: str
    settings: str


FlowSettings = FormSettings | AssistantSettings | UnknownFlow


@dataclass(frozen=True)
class Bot:
    """What answers. Empty texts mean the flow's or the language's own."""

    tenant_id: str
    bot_id: str
    flow: FlowSettings
    locale: str = "en"
    display_name: str = ""
    start_message: str = ""
    help_message: str = ""
    error_message: str = ""
    limit_message: str = ""
    dialog_ttl: timedelta = timedelta(days=30)
    debounce: timedelta = timedelta(0)
    answer_within: timedelta | None = None
    """How long a person waits while the model's endpoint is away; None for the service's setting."""
    answer_late: bool = False
    """Answer also after that."""
    owner: str = ""
    enabled: bool = True
    broken_reason: str = ""
    revision: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def asks_model(self) -> bool:
        """Whether its turns usually ask a model."""
        return isinstance(self.flow, AssistantSettings)


WRITTEN_BY_SERVICE = frozenset({"enabled", "broken_reason", "revision", "created_at", "updated_at"})
BY_OWNER = frozenset(each.name for each in fields(Bot)) - WRITTEN_BY_SERVICE - {"tenant_id", "bot_id"}
"""Fields of a bot that its owner sets. All of them are stored, may be updated, and are named as in the contract; `flow`
is there as the kind that it is."""
FLOW_KINDS = {"form": FormSettings, "assistant": AssistantSettings}
