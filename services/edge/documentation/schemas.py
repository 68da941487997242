"""What stands in bodies, for the OpenAPI document: schemas with every field, and an example of each."""

from typing import Any

MESSAGE_ID = "0199a8f0-7c1e-7d6a-9c1b-3f5f0c2a9e11"
STORED = {"message_id": MESSAGE_ID, "duplicate": False}
CHAT = {"telegram_id": 42, "message": "How do I raise sales of a product card?"}
REPLY = {"message_id": MESSAGE_ID, "reply": "Begin with the first photo.", "tokens_used": 61, "remaining_today": 29}
EVENTS = (
    'event: delta\ndata: {"text":"Begin with"}\n\nevent: done\ndata: {"message_id":"0199…","reply":"Begin with …"}\n'
)
_SERVICES = ("dialog", "delivery", "context", "limits")
HEALTHY = {"status": "ok", "postgres": "ok", "redis": "ok", "queue": "ok", "services": dict.fromkeys(_SERVICES, "ok")}
UNHEALTHY = {
    "status": "down",
    "postgres": "unknown",
    "redis": "ok",
    "queue": "degraded",
    "services": dict.fromkeys(_SERVICES, "ok") | {"dialog": "down"},
}


def _field(kind: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **more}


def _object(required: tuple[str, ...] = (), /, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT = ["string", "null"]
_WORD = {"type": "string", "enum": ["ok", "degraded", "down", "unknown"]}
_COUNT = ["integer", "null"]
_COUNTS = ("inbox_waiting", "inbox_failed", "inbox_dead", "outbox_waiting", "outbox_retrying", "outbox_dead")


def _word(description: str) -> dict[str, Any]:
    return {**_WORD, "description": description}


SCHEMAS: dict[str, Any] = {
    "Problem": _object(
        ("type", "title", "status", "reason", "detail"),
        type=_field("string", "Always `about:blank`."),
        title=_field("string", "The status in words."),
        status=_field("integer", "The HTTP status."),
        reason=_field("string", "What went wrong, in a word: a name of parley.common.v1.ErrorReason. Switch on this."),
        detail=_field("string", "What went wrong, in a sentence for people."),
        field=_field("string", "The field that is wrong; `$` is the whole body."),
        message_id=_field("string", "The message that it is about, when there is one.", format="uuid"),
        rule_id=_field("string", "The limit that is reached."),
        limit_bytes=_field("string", "How many bytes are allowed."),
    ),
    "ChatRequest": {
        **_object(
            ("message",),
            telegram_id=_field("integer", "The person, by the number that Telegram gives; or `user_id`."),
            user_id=_field("string", "The person, by an id of your own; or `telegram_id`.", minLength=1, maxLength=128),
            message=_field("string", "What the person says.", minLength=1, maxLength=65_536),
        ),
        "oneOf": [{"required": ["telegram_id"]}, {"required": ["user_id"]}],
    },
    "ChatReply": _object(
        ("message_id", "reply", "tokens_used", "remaining_today"),
        message_id=_field("string", "The message, for `parley trace`.", format="uuid"),
        reply=_field("string", "What the bot answers."),
        tokens_used=_field("integer", "Tokens that the model read and wrote; 0 when none was asked."),
        remaining_today=_field(_COUNT, "Turns that are left today; null when no limit counts them."),
    ),
    "Stored": _object(
        ("message_id", "duplicate"),
        message_id=_field(_TEXT, "The message, for `parley trace`; null for a hook that is no message.", format="uuid"),
        duplicate=_field("boolean", "It was stored before; the id is that of the first."),
    ),
    "Health": _object(
        ("status", "postgres", "redis", "queue", "services"),
        status=_word("`down` when messages cannot be taken in, `degraded` when any part is not `ok`."),
        postgres=_word("PostgreSQL, as dialog reaches it; `unknown` when dialog does not answer."),
        redis=_word("Redis, as context reaches it; `unknown` when context does not answer."),
        queue={
            "description": "Whether the queues can be counted; to operators the counts themselves.",
            "oneOf": [_WORD, _object(**{name: {"type": _COUNT} for name in _COUNTS})],
        },
        services=_field("object", "Each service.", additionalProperties=_WORD),
        edge=_field("object", "To operators only: connections, requests, and what was refused since the start."),
    ),
    "Word": _object(("status",), status=_WORD),
}
