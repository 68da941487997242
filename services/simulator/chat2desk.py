"""Chat2Desk's public API, as far as it sends messages."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.simulator.bodies import Json, decode, read_body
from services.simulator.calls import Call, CallLog
from services.simulator.connections import Cut, pause
from services.simulator.faults import Fault, Faults

PROVIDER = "chat2desk"
PATH = "/chat2desk/v1/messages"
CHANNEL = 1
OPERATOR = 1


class Chat2Desk:
    """Takes messages to clients, and remembers them in the call log."""

    def __init__(self, calls: CallLog, faults: Faults) -> None:
        self._calls = calls
        self._faults = faults
        self.tokens: frozenset[str] = frozenset()
        """Tokens that are accepted; any when empty."""

    def routes(self) -> list[Route]:
        return [Route(PATH, self.send, methods=["POST"])]

    async def send(self, request: Request) -> Response:
        """`POST /v1/messages`."""
        raw = await read_body(request)
        body = decode(raw)
        if not isinstance(body, dict):
            raise HTTPException(400, "the body must be an object")
        client_id, text = _as_text(body.get("client_id")), _as_text(body.get("text"))
        authorization = request.headers.get("authorization", "")
        call = self._calls.add(PROVIDER, request.scope["path"], client_id, text, request.headers, raw)
        if self._faults:
            fault = self._faults.take(PROVIDER, client_id=client_id, text=text, authorization=authorization)
            if fault:
                return await self._fail(request, fault, call, body, authorization)
        return self._take(call, body, authorization)

    def _take(self, call: Call, body: dict[str, Any], authorization: str, fault: str = "") -> Response:
        """Accept or refuse a message, as the real one does."""
        problems = {
            name: ["can't be blank"]
            for name, missing in (
                ("client_id", not call.client_id),
                ("text", not call.text and not body.get("attachment")),
            )
            if missing
        }
        if not authorization or (self.tokens and authorization not in self.tokens):
            response = Json({"status": "error", "message": "Unauthorized"}, 401)
        elif problems:
            response = Json({"status": "error", "errors": problems}, 400)
        else:
            call.message_id = self._calls.next_message_id()
            response = Json(
                {
                    "status": "success",
                    "data": {
                        "message_id": call.message_id,
                        "channel_id": body.get("channel_id") or CHANNEL,
                        "operator_id": body.get("operator_id") or OPERATOR,
                        "transport": body.get("transport") or "whatsapp",
                        "type": body.get("type") or "to_client",
                        "client_id": body.get("client_id"),
                        "dialog_id": body.get("client_id"),
                        "request_id": call.id,
                    },
                }
            )
        self._calls.settle(call, response.status_code, accepted=response.status_code == 200, fault=fault)
        return response

    async def _fail(
        self, request: Request, fault: Fault, call: Call, body: dict[str, Any], authorization: str
    ) -> Response:
        if fault.kind in ("delay", "drop_after"):
            await pause(request, fault.seconds)
            response = self._take(call, body, authorization, fault.kind)
            return Cut() if fault.kind == "drop_after" else response
        status = fault.status if fault.kind == "status" else 0
        self._calls.settle(call, status, accepted=False, fault=fault.kind)
        if fault.kind == "hang":
            await pause(request, fault.seconds)
        if fault.kind in ("hang", "refuse"):
            return Cut()
        message = fault.message or f"simulated {fault.status}"
        return Json({"status": "error", "message": message}, fault.status, fault.headers)


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)
