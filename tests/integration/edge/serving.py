"""The edge's HTTP server before an application that does as it is told, and raw connections to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from services.edge.server.addresses import Proxies
from services.edge.server.admission import Admission
from services.edge.server.bounds import Bounds
from services.edge.server.http import HttpServer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers with what it was told; reads the body first unless it is `/early`."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []
        self.bodies: list[bytes] = []
        self.lost = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        await self.go_on.wait()
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.lost += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = scope["path"].encode() + b" " + str(len(body)).encode()
        headers = [(b"content-length", str(len(answer)).encode())] if scope["path"] != "/chunks" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Peer:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def problem(self) -> tuple[int, str]:
        """Status and reason of an answer that is an error, after which the connection ends."""
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json" and headers["connection"] == "close"
        assert await self.ended()
        return status, json.loads(body)["reason"]

    async def ended(self) -> bool:
        """Whether the server ends the connection, without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(), 20) == b""
        except ConnectionResetError:
            return True

    def send(self, data: bytes) -> None:
        self.writer.write(data)


Connect = Callable[[], Awaitable[Peer]]


@dataclass
class Served:
    server: HttpServer
    app: App
    connect: Connect


@asynccontextmanager
async def serving(proxies: str = "", drain: float = 1.0, **bounds: Any) -> AsyncIterator[Served]:
    app, stop = App(), asyncio.Event()
    server = HttpServer(app, "127.0.0.1", 0, drain=drain, admission=Admission(Bounds(**bounds), Proxies(proxies)))
    running = asyncio.create_task(server.run(stop))
    port = await server.port
    async with AsyncExitStack() as stack:

        async def connect() -> Peer:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
            stack.callback(peer.writer.close)
            return peer

        yield Served(server, app, connect)
        stop.set()
        await running
    assert not server.admission.connections and not server.admission.requests
