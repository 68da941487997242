"""A small HTTP/1.1 server: under load the simulator shares two cores with what it stands in for.

A request costs 50 microseconds here, half of what it does under an ASGI server, and a connection can be broken at
any point, which is what faults are about.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Collection, Mapping
from http import HTTPStatus
from typing import cast

import httptools

from services.runtime.logs import get_logger
from services.simulator.http import (
    Broken,
    Cut,
    Handler,
    HttpError,
    Reply,
    Request,
    Response,
    Stream,
    json_response,
)

log = get_logger(__name__)

LARGEST_BODY = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class HttpServer:
    """Serves handlers by method and path, to callers who name it by one of its own hosts.

    A web page can have a name of its own lead here, and read the answers: its requests carry that name.
    """

    def __init__(self, routes: Mapping[tuple[str, str], Handler], hosts: Collection[str] = ()) -> None:
        """`hosts`: names besides those of loopback."""
        self._routes = routes
        self._hosts = frozenset(name.lower() for name in (*LOOPBACK, *hosts))
        self._paths = {path for _, path in routes}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which for 0 is any free one. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> None:
        """Stop listening, let requests finish for so many seconds, and cut what is left."""
        if self._server is None:
            return
        self._server.close()
        tasks = [connection.task for connection in self._connections if connection.task]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for connection in list(self._connections):
            connection.cut()

    def handle(self, request: Request) -> Reply | Awaitable[Reply]:
        """The answer to a request, or what will give it. Raises HttpError."""
        host = request.headers.get("host", "").lower()
        if host not in self._hosts and host.rpartition(":")[0] not in self._hosts:
            raise HttpError(421, "the simulator is not called that; PARLEY_SIMULATOR_HOSTS names further hosts")
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = request.path in self._paths
            raise HttpError(405 if known else 404, f"no {request.method} {request.path} here; see docs")
        return handler(request)

    def opened(self, connection: "Connection") -> None:
        self._connections.add(connection)

    def closed(self, connection: "Connection") -> None:
        self._connections.discard(connection)


class Connection(asyncio.Protocol):
    """One connection: its requests are answered in order."""

    def __init__(self, server: HttpServer) -> None:
        self.task: asyncio.Task[None] | None = None
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._keep_alive = True
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._server.closed(self)
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._write(json_response({"error": "not HTTP/1.1"}, 400))
            self.close()

    def on_message_begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._url = b""
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > LARGEST_BODY:
            self._write(json_response({"error": "the body is too large"}, 413))
            self.close()
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        path, _, query = self._url.partition(b"?")
        method = self._parser.get_method().decode("latin-1")
        keep_alive = self._parser.should_keep_alive()
        self._waiting.append(Request(method, path.decode("latin-1"), query, self._headers, self._body, keep_alive))
        if self.task is None:
            self._next()

    def _next(self) -> None:
        """Answer the waiting requests, as far as that needs no waiting."""
        while self._waiting and self.task is None:
            request = self._waiting.popleft()
            self._keep_alive = request.keep_alive
            reply = self._reply(request)
            if isinstance(reply, Response):
                self._write(reply)
            else:
                self.task = asyncio.get_running_loop().create_task(self._finish(reply))

    def _reply(self, request: Request) -> Reply | Awaitable[Reply]:
        try:
            return self._server.handle(request)
        except HttpError as error:
            return json_response({"error": str(error)}, error.status)
        except Exception as error:
            log.error("request failed", path=request.path, exc_info=error)
            return json_response({"error": "internal error; see the simulator's log"}, 500)

    async def _finish(self, reply: Reply | Awaitable[Reply]) -> None:
        try:
            done = reply if isinstance(reply, Response | Stream | Cut) else await reply
            if isinstance(done, Response):
                self._write(done)
            elif isinstance(done, Stream):
                await self._write_stream(done)
            else:
                self.cut()
        except HttpError as error:
            self._write(json_response({"error": str(error)}, error.status))
        except Broken:
            self.cut()
        except Exception as error:
            log.error("request failed", exc_info=error)
            self._write(json_response({"error": "internal error; see the simulator's log"}, 500))
        finally:
            self.task = None
            self._next()

    def _write(self, response: Response) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        extra = "".join(f"{name}: {value}\r\n" for name, value in (response.headers or {}).items())
        head = (
            f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}\r\n"
            f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}\r\n{extra}\r\n"
        )
        self._transport.write(head.encode("latin-1") + response.body)
        if not self._keep_alive:
            self.close()

    async def _write_stream(self, stream: Stream) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {stream.content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        self._send(head.encode("latin-1"))
        async for piece in stream.pieces:
            self._send(b"%x\r\n%s\r\n" % (len(piece), piece))
        self._send(b"0\r\n\r\n")
        if not self._keep_alive:
            self.close()

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close when all that was written has left."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Close at once: the other side sees a reset."""
        if self._transport is not None:
            self._transport.abort()
