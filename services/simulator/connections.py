"""Connections that can be cut: what a fault does to its caller instead of answering."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ABORT = "simulator.abort"


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which lets the application close it at any point."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {_ABORT: self.transport.abort}


async def cut(scope: Scope, receive: Receive) -> None:
    """Closes the connection at once, so that the caller sees a reset, and returns when it is closed."""
    scope["extensions"][_ABORT]()
    while (await receive())["type"] != "http.disconnect":
        pass


async def pause(request: Request, seconds: float) -> None:
    """Waits so many seconds before an answer. Raises ClientDisconnect when the caller does not wait as long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
        raise ClientDisconnect


class Cut(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cut(scope, receive)


class Broken(Exception):
    """Ends a stream by cutting its connection."""


class EventStream(StreamingResponse):
    """Server-sent events. When their iterator raises Broken, the connection is reset."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Broken:
            await cut(scope, receive)
