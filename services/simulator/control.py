"""How tests and people steer the simulator."""

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from services.simulator.calls import CallLog, Query
from services.simulator.chat2desk import Chat2Desk
from services.simulator.faults import Faults, Order
from services.simulator.http import HttpError, Reply, Request, Response, converted, json_response
from services.simulator.model import ResponsesApi
from services.simulator.scripts import Script, Scripts

T = TypeVar("T")
MOST_CALLS = 1000
LONGEST_WAIT = 60.0


class Tokens(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `PUT /tokens`: the only tokens a stand-in accepts; any when empty."""

    provider: str
    tokens: list[str] = []


class Control:
    """The routes that no real provider has."""

    def __init__(
        self, calls: CallLog, faults: Faults, scripts: Scripts, chat2desk: Chat2Desk, model: ResponsesApi
    ) -> None:
        self._calls = calls
        self._faults = faults
        self._scripts = scripts
        self._chat2desk = chat2desk
        self._model = model
        self._started = time.time()

    def health(self, request: Request) -> Response:
        """`GET /health`."""
        return json_response(
            {
                "status": "ok",
                "calls": len(self._calls),
                "last_id": self._calls.last_id,
                "counts": dict(self._calls.counts),
                "faults": len(self._faults.shown()),
                "uptime_seconds": round(time.time() - self._started, 1),
            }
        )

    async def list_calls(self, request: Request) -> Reply:
        """`GET /calls`; with `wait` it answers when `count` calls match, or after so many seconds."""
        given = request.query()
        query = Query(
            provider=given.get("provider", ""),
            client_id=given.get("client_id", ""),
            since=_number(given, "since", 0, int),
            accepted={"": None, "true": True, "false": False}.get(given.get("accepted", "")),
        )
        wait = min(_number(given, "wait", 0.0, float), LONGEST_WAIT)
        if wait > 0:
            await self._calls.wait(query, max(_number(given, "count", 1, int), 1), wait)
        limit = min(max(_number(given, "limit", 100, int), 1), MOST_CALLS)
        found = self._calls.find(query, limit)
        return json_response({"calls": [call.shown() for call in found], "last_id": self._calls.last_id})

    def delete_calls(self, request: Request) -> Response:
        """`DELETE /calls`. Ids go on."""
        return json_response({"deleted": self._calls.clear()})

    def add_fault(self, request: Request) -> Response:
        """`POST /faults`."""
        fault = self._faults.add(request.read(Order))
        return json_response({"id": fault.id}, 201)

    def list_faults(self, request: Request) -> Response:
        """`GET /faults`."""
        return json_response({"faults": self._faults.shown()})

    def delete_faults(self, request: Request) -> Response:
        """`DELETE /faults`."""
        return json_response({"deleted": self._faults.clear()})

    def add_scripts(self, request: Request) -> Response:
        """`POST /scripts`: one script, or a list of them."""
        body = request.command().json()
        scripts = converted(body if isinstance(body, list) else [body], list[Script])
        for script in scripts:
            self._scripts.add(script)
        return json_response({"added": len(scripts)}, 201)

    def list_scripts(self, request: Request) -> Response:
        """`GET /scripts`."""
        return json_response({"scripts": self._scripts.shown()})

    def delete_scripts(self, request: Request) -> Response:
        """`DELETE /scripts`."""
        return json_response({"deleted": self._scripts.clear()})

    def set_tokens(self, request: Request) -> Response:
        """`PUT /tokens`."""
        given = request.read(Tokens)
        if given.provider == "chat2desk":
            self._chat2desk.tokens = frozenset(given.tokens)
        elif given.provider == "openai":
            self._model.keys = frozenset(given.tokens)
        else:
            raise HttpError(400, "provider: must be chat2desk or openai")
        return json_response({"provider": given.provider, "tokens": len(given.tokens)})


def _number(given: dict[str, str], name: str, default: T, kind: Callable[[str], T]) -> T:
    try:
        return kind(given[name]) if given.get(name) else default
    except ValueError as error:
        raise HttpError(400, f"{name}: must be a number") from error
