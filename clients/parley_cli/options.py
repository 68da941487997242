"""The choices that options offer, in the help and in shell completion."""

from enum import StrEnum


class MessageState(StrEnum):
    """The states of a message."""

    received = "received"
    processing = "processing"
    completed = "completed"
    failed = "failed"
    terminal = "terminal"


class PartState(StrEnum):
    """The states of a part of a delivery."""

    pending = "pending"
    started = "started"
    sent = "sent"
    unknown = "unknown"
    dead = "dead"


class Flow(StrEnum):
    """The flows of this version."""

    form = "form"
    assistant = "assistant"


class Provider(StrEnum):
    """The providers of this version."""

    api = "api"
    chat2desk = "chat2desk"


class Mode(StrEnum):
    """How a provider's messages arrive."""

    webhook = "webhook"


class Scope(StrEnum):
    """What a key opens."""

    chat = "chat"
    service = "service"


class Level(StrEnum):
    """How severe a log line is."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"
