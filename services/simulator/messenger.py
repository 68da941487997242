"""A stand-in for a messenger: takes messages to its clients, and remembers them in the call log."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.simulator.bodies import Json, decode, read_body
from services.simulator.calls import Call, CallLog
from services.simulator.connections import Cut, pause
from services.simulator.faults import Fault, Faults
from services.simulator.providers.base import Body, Provider, Sent


class Messenger:
    """Answers as one provider does, or as a fault wants it."""

    def __init__(self, provider: Provider, calls: CallLog, faults: Faults) -> None:
        self.tokens: frozenset[str] = frozenset()
        """Tokens that are accepted; any when empty."""
        self._provider = provider
        self._calls = calls
        self._faults = faults

    def routes(self) -> list[Route]:
        return [Route(self._provider.path, self.send, methods=["POST"])]

    async def send(self, request: Request) -> Response:
        """Sends a message to a client."""
        raw = await read_body(request)
        body = decode(raw)
        if not isinstance(body, dict):
            raise HTTPException(400, "the body must be an object")
        name, sent = self._provider.name, self._provider.read(request, body)
        call = self._calls.add(name, request.scope["path"], sent.client_id, sent.text, request.headers, raw)
        if self._faults:
            fault = self._faults.take(name, client_id=sent.client_id, text=sent.text, authorization=sent.token)
            if fault:
                return await self._fail(request, fault, call, sent, body)
        return self._take(call, sent, body)

    def _take(self, call: Call, sent: Sent, body: Body, fault: str = "") -> Response:
        """Accepts or refuses a message, as the real one does."""
        if not sent.token or (self.tokens and sent.token not in self.tokens):
            response = Json(self._provider.error("Unauthorized"), 401)
        elif (refused := self._provider.refuse(sent, body)) is not None:
            response = Json(refused, 400)
        else:
            call.message_id = self._calls.next_message_id()
            response = Json(self._provider.accept(call, body))
        self._calls.settle(call, response.status_code, accepted=response.status_code == 200, fault=fault)
        return response

    async def _fail(self, request: Request, fault: Fault, call: Call, sent: Sent, body: Body) -> Response:
        if fault.kind in ("delay", "drop_after"):
            await pause(request, fault.seconds)
            response = self._take(call, sent, body, fault.kind)
            return Cut() if fault.kind == "drop_after" else response
        status = fault.status if fault.kind == "status" else 0
        self._calls.settle(call, status, accepted=False, fault=fault.kind)
        if fault.kind == "hang":
            await pause(request, fault.seconds)
        if fault.kind in ("hang", "refuse"):
            return Cut()
        return Json(self._provider.error(fault.message or f"simulated {fault.status}"), fault.status, fault.headers)
