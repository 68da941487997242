"""Chat2Desk's public API, as far as it sends messages, and its inbox hooks."""

import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from services.simulator.calls import Call
from services.simulator.providers.base import Body, Provider, Say, Sent

CHANNEL = 1
OPERATOR = 1


def read(request: Request, body: Body) -> Sent:
    """The token stands in `Authorization` as it is."""
    return Sent(_text(body.get("client_id")), _text(body.get("text")), request.headers.get("authorization", ""))


def refuse(sent: Sent, body: Body) -> Any:
    """A message needs a client, and a text or an attachment."""
    missing = {"client_id": not sent.client_id, "text": not sent.text and not body.get("attachment")}
    problems = {name: ["can't be blank"] for name, is_missing in missing.items() if is_missing}
    return {"status": "error", "errors": problems} if problems else None


def accept(call: Call, body: Body) -> Any:
    """What Chat2Desk answers to a message that it takes."""
    data = {
        "message_id": call.message_id,
        "channel_id": body.get("channel_id") or CHANNEL,
        "operator_id": body.get("operator_id") or OPERATOR,
        "transport": body.get("transport") or "whatsapp",
        "type": body.get("type") or "to_client",
        "client_id": body.get("client_id"),
        "dialog_id": body.get("client_id"),
        "request_id": call.id,
    }
    return {"status": "success", "data": data}


def error(message: str) -> Any:
    """What Chat2Desk answers when it takes nothing."""
    return {"status": "error", "message": message}


def webhook(said: Say, message_id: int | str) -> Any:
    """An inbox hook as Chat2Desk sends it."""
    return {
        "message_id": message_id,
        "type": "from_client" if said.hook_type == "inbox" else "to_client",
        "text": said.text or None,
        "transport": "whatsapp",
        "client_id": said.client_id,
        "operator_id": None,
        "dialog_id": said.client_id,
        "channel_id": CHANNEL,
        "photo": None,
        "audio": None,
        "pdf": None,
        "client": {"id": said.client_id, "phone": said.phone or None, "name": said.name},
        "hook_type": said.hook_type,
        "request_id": int(time.time()),
        "attachments": said.attachments,
        "is_new_request": False,
        "is_new_client": False,
        "extra_data": {},
        "event_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


PROVIDER = Provider("chat2desk", "/chat2desk/v1/messages", read, refuse, accept, error, webhook)
