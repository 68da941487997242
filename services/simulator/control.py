"""The routes by which tests and people steer the simulator."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.simulator.bodies import Json, convert, read_command
from services.simulator.calls import CallLog, Query
from services.simulator.faults import Faults, Order
from services.simulator.scripts import Script, Scripts

T = TypeVar("T")
MOST_CALLS = 1000
LONGEST_WAIT = 60.0


class Tokens(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `PUT /tokens`: the only tokens a stand-in accepts; any when empty."""

    provider: str
    tokens: list[str] = []


class StandIn(Protocol):
    """Answers in a provider's place."""

    tokens: frozenset[str]


class Control:
    """Serves the routes that no real provider has."""

    def __init__(self, calls: CallLog, faults: Faults, scripts: Scripts, stand_ins: Mapping[str, StandIn]) -> None:
        self._calls = calls
        self._faults = faults
        self._scripts = scripts
        self._stand_ins = stand_ins
        self._started = time.time()

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/calls", self.list_calls, methods=["GET"]),
            Route("/calls", self.delete_calls, methods=["DELETE"]),
            Route("/faults", self.list_faults, methods=["GET"]),
            Route("/faults", self.add_fault, methods=["POST"]),
            Route("/faults", self.delete_faults, methods=["DELETE"]),
            Route("/scripts", self.list_scripts, methods=["GET"]),
            Route("/scripts", self.add_scripts, methods=["POST"]),
            Route("/scripts", self.delete_scripts, methods=["DELETE"]),
            Route("/tokens", self.set_tokens, methods=["PUT"]),
        ]

    async def health(self, request: Request) -> Response:
        """`GET /health`."""
        return Json(
            {
                "status": "ok",
                "calls": len(self._calls),
                "last_id": self._calls.last_id,
                "counts": dict(self._calls.counts),
                "faults": len(self._faults.shown()),
                "uptime_seconds": round(time.time() - self._started, 1),
            }
        )

    async def list_calls(self, request: Request) -> Response:
        """`GET /calls`; with `wait` it answers when `count` calls match, or after so many seconds."""
        given = request.query_params
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
        return Json({"calls": [call.shown() for call in found], "last_id": self._calls.last_id})

    async def delete_calls(self, request: Request) -> Response:
        """`DELETE /calls`. Ids go on."""
        return Json({"deleted": self._calls.clear()})

    async def add_fault(self, request: Request) -> Response:
        """`POST /faults`."""
        fault = self._faults.add(await read_command(request, Order))
        return Json({"id": fault.id}, 201)

    async def list_faults(self, request: Request) -> Response:
        """`GET /faults`."""
        return Json({"faults": self._faults.shown()})

    async def delete_faults(self, request: Request) -> Response:
        """`DELETE /faults`."""
        return Json({"deleted": self._faults.clear()})

    async def add_scripts(self, request: Request) -> Response:
        """`POST /scripts`: one script, or a list of them."""
        body = await read_command(request, object)
        scripts = convert(body if isinstance(body, list) else [body], list[Script])
        for script in scripts:
            self._scripts.add(script)
        return Json({"added": len(scripts)}, 201)

    async def list_scripts(self, request: Request) -> Response:
        """`GET /scripts`."""
        return Json({"scripts": self._scripts.shown()})

    async def delete_scripts(self, request: Request) -> Response:
        """`DELETE /scripts`."""
        return Json({"deleted": self._scripts.clear()})

    async def set_tokens(self, request: Request) -> Response:
        """`PUT /tokens`."""
        given = await read_command(request, Tokens)
        stand_in = self._stand_ins.get(given.provider)
        if stand_in is None:
            raise HTTPException(400, f"provider: must be {' or '.join(self._stand_ins)}")
        stand_in.tokens = frozenset(given.tokens)
        return Json({"provider": given.provider, "tokens": len(given.tokens)})


def _number(given: Mapping[str, str], name: str, default: T, kind: Callable[[str], T]) -> T:
    try:
        return kind(given[name]) if given.get(name) else default
    except ValueError as error:
        raise HTTPException(400, f"{name}: must be a number") from error
