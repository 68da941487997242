"""The choices that options offer: they stand in the help, and completion offers them."""

from enum import StrEnum


class MessageState(StrEnum):
    """Where a message stands, as options write it."""

    received = "received"
    processing = "processing"
    completed = "completed"
    failed = "failed"
    terminal = "terminal"


class PartState(StrEnum):
    """Where a part of a delivery stands, as options write it."""

    pending = "pending"
    started = "started"
    sent = "sent"
    unknown = "unknown"
    dead = "dead"


class Flow(StrEnum):
    """Flows that this version has."""

    form = "form"
    assistant = "assistant"


class Provider(StrEnum):
    """Providers that this version has."""

    api = "api"
    chat2desk = "chat2desk"


class Mode(StrEnum):
    """Ways in that this version has."""

    webhook = "webhook"


class Scope(StrEnum):
    """What a key is good for."""

    chat = "chat"
    service = "service"


class Level(StrEnum):
    """How bad a log line is."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"
