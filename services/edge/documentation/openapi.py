"""The edge's OpenAPI document."""

from typing import Any

import msgspec

from services.edge.documentation import schemas
from services.edge.problems import Problem
from services.edge.providers import chat2desk
from services.edge.providers.base import Provider
from services.edge.providers.registry import PROVIDERS

JSON = "application/json"
PROBLEM = "application/problem+json"


def _ref(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _good(description: str, schema: str = "", example: object = None, kind: str = JSON) -> dict[str, Any]:
    content = {kind: {"schema": _ref(schema) if schema else {"type": "string"}, "example": example}}
    return {"description": description, "content": content}


def _bad(problem: Problem, description: str = "") -> dict[str, Any]:
    """An answer that is an error, with the document of `problem` as its example."""
    answer: dict[str, Any] = {
        "description": description or problem.detail,
        "content": {PROBLEM: {"schema": _ref("Problem"), "example": problem.document()}},
    }
    if problem.retry_after is not None:
        schema = {"type": "integer", "minimum": 1}
        answer["headers"] = {"Retry-After": {"description": "Seconds until it is worth another try.", "schema": schema}}
    return answer


def _body(schema: str, example: object) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": _ref(schema), "example": example}}}


_ANY = {
    "413": _bad(Problem(413, "TOO_LARGE", "The body is larger than 1,000,000 bytes.")),
    "429": _bad(
        Problem(429, "TOO_MANY_FAILURES", "Too many failed tries from this address; wait.", retry_after=42),
        "This address has shown too many unknown keys, secrets or channels.",
    ),
    "503": _bad(
        Problem(503, "STORAGE_UNAVAILABLE", "Postgres cannot be reached.", retry_after=1),
        "A service or its storage is away, or too many requests are under way; nothing was kept, send it again.",
    ),
}
_HOOK_ANSWERS = {
    "200": _good("Stored durably, or a duplicate of what was stored.", "Stored", schemas.STORED),
    "400": _bad(Problem(400, "INVALID_FIELD", "The body is not JSON.", "$")),
    "401": _bad(Problem(401, "INVALID_SIGNATURE", "The webhook secret is missing or wrong.")),
    "404": _bad(Problem(404, "CHANNEL_NOT_FOUND", "There is no channel 'nowhere'.")),
    "422": _bad(
        Problem(422, "INVALID_FIELD", "message_id: is missing", "message_id"),
        "A field is missing or wrong; `field` names it.",
    ),
} | _ANY
_CHAT_ERRORS = {
    "401": _bad(Problem(401, "INVALID_API_KEY", "The API key is missing or not valid.")),
    "403": _bad(Problem(403, "SCOPE_MISSING", "This API key is not for chat.")),
    "404": _bad(Problem(404, "CHANNEL_NOT_FOUND", "The API key's channel is not a REST API channel any more.")),
    "409": _bad(
        Problem(409, "CHANNEL_DISABLED", "The API key's channel is disabled."),
        "The channel or its bot is disabled, or the `Idempotency-Key` was used for another message.",
    ),
    "413": _ANY["413"],
    "422": _bad(
        Problem(422, "INVALID_FIELD", "Give exactly one of telegram_id and user_id.", "telegram_id"),
        "A field is missing or wrong; `field` names it.",
    ),
    "429": _bad(
        Problem(429, "LIMIT_EXCEEDED", "30 a day are used up.", retry_after=3600),
        "The daily quota is used up (`LIMIT_EXCEEDED`), or this address has shown too many unknown keys "
        "(`TOO_MANY_FAILURES`).",
    ),
    "502": _bad(
        Problem(502, "MODEL_UNAVAILABLE", "The model failed.", extra={"message_id": schemas.MESSAGE_ID}),
        "The model failed; `message_id` names the message.",
    ),
    "503": _ANY["503"],
    "504": _bad(
        Problem(504, "STILL_WORKING", "The answer is not ready yet.", extra={"message_id": schemas.MESSAGE_ID}),
        "No answer in time. The turn goes on: the same `Idempotency-Key` fetches its result.",
    ),
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes repeating safe: the same key, person and message get the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_CHANNEL = {
    "name": "channel_id",
    "in": "path",
    "required": True,
    "description": "The channel, as `parley channels list` shows it.",
    "schema": {"type": "string"},
    "example": "demo-chat2desk",
}


def _get(summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"get": {"tags": ["Health"], "summary": summary, "responses": answers, "security": [], **more}}


def _webhook(provider: Provider, *parameters: dict[str, Any], summary: str = "") -> dict[str, Any]:
    said = provider.documentation
    return {
        "post": {
            "tags": ["Webhooks"],
            "summary": summary or said.summary,
            "description": f"The answer is 200 only after what the body says is stored. {said.description}",
            "security": [{scheme: []} for scheme in said.schemes],
            "parameters": list(parameters),
            "requestBody": _body(said.body.__name__, said.example),
            "responses": _HOOK_ANSWERS,
        }
    }


def _schemas_of(provider: Provider) -> dict[str, Any]:
    """The schema of a body, and those that it refers to."""
    return msgspec.json.schema_components([provider.documentation.body], ref_template="#/components/schemas/{name}")[1]


def _chat(summary: str, description: str, good: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "tags": ["Chat"],
            "summary": summary,
            "description": description,
            "security": [{"api_key": []}],
            "parameters": [_IDEMPOTENCY],
            "requestBody": _body("ChatRequest", schemas.CHAT),
            "responses": {"200": good} | _CHAT_ERRORS,
        }
    }


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Parley edge",
        "version": "1",
        "description": "Webhooks of messengers and the chat API. Every error is `application/problem+json` with a "
        "`reason`.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "servers": [{"url": "/", "description": "This edge."}],
    "paths": {
        "/v1/chat/send": _chat(
            "Answers a message in the same call.",
            "The bot of the API key's channel answers the person that `telegram_id` or `user_id` names.",
            _good("The reply, tokens used, and what is left of the day.", "ChatReply", schemas.REPLY),
        ),
        "/v1/chat/stream": _chat(
            "The same as server-sent events.",
            "`delta` holds the next piece of `text`; after `reset` the text begins anew. Pieces may be left out: "
            "`done` holds all that /v1/chat/send answers, the whole reply too. `error` holds a problem. What fails "
            "before the first piece is a plain answer with its status.",
            _good("The events.", example=schemas.EVENTS, kind="text/event-stream"),
        ),
        **{f"/webhooks/{name}/{{channel_id}}": _webhook(provider, _CHANNEL) for name, provider in PROVIDERS.items()},
        "/webhook/chat2desk": _webhook(
            chat2desk.PROVIDER,
            summary="The same, for the channel that the setting PARLEY_EDGE_CHAT2DESK_CHANNEL names.",
        ),
        "/health": _get(
            "How the services, the stores and the queues are.",
            {
                "200": _good("Messages are taken in.", "Health", schemas.HEALTHY),
                "401": _bad(Problem(401, "INVALID_TOKEN", "The token is malformed or its signature is wrong.")),
                "403": _bad(Problem(403, "TENANT_NOT_ALLOWED", "The counts are of all tenants.")),
                "503": _good("Messages cannot be taken in.", "Health", schemas.UNHEALTHY),
            },
            description="A word for each part. With a token for every tenant (an operator's, or a service's) `queue` "
            "holds counts, and `edge` those of this process. The answer is at most a second old.",
            security=[{}, {"token": []}],
        ),
        "/health/live": _get("The process answers.", {"200": _good("Alive.", "Word", {"status": "ok"})}),
        "/health/ready": _get(
            "Whether messages are taken in now.",
            {
                "200": _good("Ready.", "Word", {"status": "ok"}),
                "503": _good("Not ready.", "Word", {"status": "down"}),
            },
        ),
    },
    "components": {
        "securitySchemes": {
            "api_key": {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-KEY",
                "description": "Made by `parley keys create --scope chat`; it names the tenant and the channel.",
            },
            **{
                name: scheme
                for provider in PROVIDERS.values()
                for name, scheme in provider.documentation.schemes.items()
            },
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "An operator's or a service's token for every tenant.",
            },
        },
        "schemas": schemas.SCHEMAS
        | {name: schema for provider in PROVIDERS.values() for name, schema in _schemas_of(provider).items()},
    },
}
