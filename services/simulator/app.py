"""The simulator's HTTP application: who may call it, and what its handlers' errors look like."""

import asyncio
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from services.runtime.logs import get_logger
from services.simulator.bodies import Json
from services.simulator.connections import cut

log = get_logger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Application:
    """Serves routes to callers who address it by one of its own hosts.

    A web page can make a name of its own lead here and read the answers, but its requests carry that name.
    """

    def __init__(self, routes: Sequence[Route], hosts: Collection[str] = ()) -> None:
        """`hosts`: names besides those of loopback."""
        self._router = Router(routes, redirect_slashes=False)
        self._hosts = frozenset(name.lower() for name in (*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # so that a route reports a wrong method instead of answering by itself
        try:
            self._check_host(Headers(scope=scope).get("host", "").lower())
            await self._router(scope, receive, send)
            return
        except ClientDisconnect:
            return
        except asyncio.CancelledError:  # the simulator stops
            await cut(scope, receive)
            return
        except HTTPException as error:
            message = error.detail
            if error.status_code in (404, 405):
                message = f"no {scope['method']} {scope['path']} here; see docs"
            answer = Json({"error": message}, error.status_code)
        except Exception as error:
            log.error("request failed", path=scope["path"], exc_info=error)
            answer = Json({"error": "internal error; see the simulator's log"}, 500)
        await answer(scope, receive, send)

    def _check_host(self, host: str) -> None:
        if host not in self._hosts and host.rpartition(":")[0] not in self._hosts:
            raise HTTPException(421, "the simulator is not called that; PARLEY_SIMULATOR_HOSTS names further hosts")
