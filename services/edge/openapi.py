"""The edge's OpenAPI document."""

from typing import Any


def _content(kind: str, schema: str) -> dict[str, Any]:
    return {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _responses(good: dict[str, Any] | None = None, /, **descriptions: str) -> dict[str, Any]:
    """Answers by status (`s200="Alive."`); `good` is the content of a 200."""
    responses: dict[str, Any] = {}
    for name, description in descriptions.items():
        status = name.removeprefix("s")
        content = _content("application/problem+json", "Problem") if status >= "400" else good
        responses[status] = {"description": description, **({"content": content} if content else {})}
    return responses


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": _content("application/json", schema)}


_STORED = {
    "s200": "Stored durably, or a duplicate of what was stored.",
    "s400": "The body is not JSON.",
    "s401": "The secret is missing or wrong.",
    "s404": "There is no such channel.",
    "s413": "The body is too large.",
    "s422": "A field is missing or wrong; `field` names it.",
    "s503": "Storage is away; send it again after `Retry-After` seconds.",
}
_CHAT_ERRORS = {
    "s401": "The API key is missing or not valid.",
    "s403": "The API key is not for chat.",
    "s404": "The API key's channel is gone.",
    "s409": "The channel is disabled.",
    "s413": "The body is too large.",
    "s422": "A field is missing or wrong; `field` names it.",
    "s429": "The daily quota is used up; `Retry-After` says when it begins anew.",
    "s502": "The model failed; `message_id` names the message.",
    "s503": "A service is away; send it again after `Retry-After` seconds.",
    "s504": "No answer in time. The turn goes on: the same `Idempotency-Key` fetches its result.",
}
_KEY = {"name": "X-API-KEY", "in": "header", "required": True, "schema": {"type": "string"}}
_IDEMPOTENCY = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
_SECRET = [
    {"name": "secret", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Webhook-Secret", "in": "header", "schema": {"type": "string"}},
]
_CHANNEL = {"name": "channel_id", "in": "path", "required": True, "schema": {"type": "string"}}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Parley edge",
        "version": "1",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "paths": {
        "/webhooks/chat2desk/{channel_id}": {
            "post": {
                "summary": "Takes in a Chat2Desk hook.",
                "parameters": [_CHANNEL, *_SECRET],
                "requestBody": _body("Chat2DeskHook"),
                "responses": _responses(_content("application/json", "Stored"), **_STORED),
            }
        },
        "/webhook/chat2desk": {
            "post": {
                "summary": "The same, for the channel that the setting PARLEY_EDGE_CHAT2DESK_CHANNEL names.",
                "parameters": _SECRET,
                "requestBody": _body("Chat2DeskHook"),
                "responses": _responses(_content("application/json", "Stored"), **_STORED),
            }
        },
        "/v1/chat/send": {
            "post": {
                "summary": "Answers a message in the same call.",
                "parameters": [_KEY, _IDEMPOTENCY],
                "requestBody": _body("ChatRequest"),
                "responses": _responses(
                    _content("application/json", "ChatReply"),
                    s200="The reply, tokens used, and what is left of the day.",
                    **_CHAT_ERRORS,
                ),
            }
        },
        "/v1/chat/stream": {
            "post": {
                "summary": "The same as server-sent events: `delta`, `reset`, `done`, `error`.",
                "description": "`delta` holds the next piece of `text`; after `reset` the text begins anew. Pieces may"
                " be left out: `done` holds all that /v1/chat/send answers, the whole reply too. `error` holds a"
                " problem.",
                "parameters": [_KEY, _IDEMPOTENCY],
                "requestBody": _body("ChatRequest"),
                "responses": _responses(
                    {"text/event-stream": {"schema": {"type": "string"}}}, s200="The events.", **_CHAT_ERRORS
                ),
            }
        },
        "/health": {
            "get": {
                "summary": "Services, stores and queues.",
                "responses": _responses(s200="Messages are taken in.", s503="Messages cannot be taken in."),
            }
        },
        "/health/live": {"get": {"summary": "The process answers.", "responses": _responses(s200="Alive.")}},
        "/health/ready": {
            "get": {
                "summary": "Whether messages are taken in now.",
                "responses": _responses(s200="Ready.", s503="Not ready."),
            }
        },
    },
    "components": {
        "schemas": {
            "Problem": {
                "type": "object",
                "required": ["type", "title", "status", "reason", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "reason": {"type": "string", "description": "A name of parley.common.v1.ErrorReason."},
                    "detail": {"type": "string"},
                    "field": {"type": "string", "description": "The field that is wrong."},
                },
            },
            "ChatRequest": {
                "type": "object",
                "required": ["message"],
                "oneOf": [{"required": ["telegram_id"]}, {"required": ["user_id"]}],
                "properties": {
                    "telegram_id": {"type": "integer"},
                    "user_id": {"type": "string", "minLength": 1, "maxLength": 128},
                    "message": {"type": "string", "minLength": 1, "maxLength": 65536},
                },
            },
            "ChatReply": {
                "type": "object",
                "required": ["message_id", "reply", "tokens_used", "remaining_today"],
                "properties": {
                    "message_id": {"type": "string", "format": "uuid"},
                    "reply": {"type": "string"},
                    "tokens_used": {"type": "integer"},
                    "remaining_today": {
                        "type": ["integer", "null"],
                        "description": "Turns that are left today; null when no limit counts them.",
                    },
                },
            },
            "Stored": {
                "type": "object",
                "required": ["message_id", "duplicate"],
                "properties": {
                    "message_id": {
                        "type": ["string", "null"],
                        "format": "uuid",
                        "description": "null for a hook that is no message.",
                    },
                    "duplicate": {"type": "boolean"},
                },
            },
            "Chat2DeskHook": {
                "type": "object",
                "required": ["hook_type"],
                "properties": {
                    "hook_type": {"type": "string", "examples": ["inbox", "outbox", "outbox_status"]},
                    "message_id": {"type": ["integer", "string"]},
                    "client_id": {"type": ["integer", "string"]},
                    "type": {"type": "string", "examples": ["from_client"]},
                    "text": {"type": ["string", "null"]},
                },
            },
        }
    },
}
