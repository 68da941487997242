"""HTTP/1.1 in as few instructions as a measurement allows: it shares the cores with what it measures.

Test equipment, not a library: requests and responses carry a Content-Length, connections are kept alive, and a
connection has one request under way.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

Done = Callable[[int, bytes], None]
"""Called with the status and the body; status 0 means that the connection was lost."""


def request_bytes(method: str, path: str, host: str, body: bytes, headers: str = "") -> bytes:
    """A whole request. `headers` are lines that end with CRLF."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _content_length(head: bytes) -> int:
    """Raises ValueError when there is none."""
    start = head.lower().find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError("a message without Content-Length")
    end = head.find(b"\r\n", start + 17)
    return int(head[start + 17 : end if end > 0 else len(head)])


class Connection(asyncio.Protocol):
    """A client's connection."""

    __slots__ = ("_buffer", "_done", "_transport")

    def __init__(self) -> None:
        self._buffer = b""
        self._done: Done | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, data: bytes, done: Done) -> None:
        """Send a request; `done` is called once."""
        if self._transport is None:
            done(0, b"")
            return
        self._done = done
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < (total := end + 4 + _content_length(data[:end])):
            self._buffer = data
            return
        self._buffer = data[total:]
        done, self._done = self._done, None
        if done is not None:
            done(int(data[9:12]), data[end + 4 : total])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        done, self._done = self._done, None
        if done is not None:
            done(0, b"")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Connections:
    """Idle connections to one server, and new ones when none is idle."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[Connection] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self.opened = 0

    async def warm(self, count: int) -> None:
        """Open `count` connections ahead of time."""
        self._idle += [await self._connect() for _ in range(count)]

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        self.opened += 1
        return connection

    def send(self, data: bytes, done: Done) -> None:
        """Send a request on an idle connection; `done` is called once."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._send_on(connection, data, done)
                return
        task = asyncio.ensure_future(self._send_on_new(data, done))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _send_on_new(self, data: bytes, done: Done) -> None:
        try:
            connection = await self._connect()
        except OSError:
            done(0, b"")
            return
        self._send_on(connection, data, done)

    def _send_on(self, connection: Connection, data: bytes, done: Done) -> None:
        def answered(status: int, body: bytes) -> None:
            if status:
                self._idle.append(connection)
            done(status, body)

        connection.send(data, answered)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class Sent(msgspec.Struct):
    """What the bench reads of `POST /v1/messages`."""

    client_id: int | str
    text: str = ""


class Provider(asyncio.Protocol):
    """The provider's side: takes `POST /v1/messages` as Chat2Desk does, and answers at once."""

    _decoder = msgspec.json.Decoder(Sent)
    _number = 0

    def __init__(self, token: bytes, on_message: Callable[[int, str], None]) -> None:
        self._token = b"authorization: " + token.lower() + b"\r\n"
        self._on_message = on_message
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[: end + 2]
            total = end + 4 + _content_length(head)
            if len(data) < total:
                return
            self._answer(head, data[end + 4 : total])
            self._buffer = data = data[total:]

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if not head.startswith(b"POST /v1/messages ") or self._token not in head.lower():
            self._transport.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            return
        sent = self._decoder.decode(body)
        Provider._number += 1
        answer = b'{"status":"success","data":{"message_id":%d}}' % Provider._number
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )
        self._on_message(int(sent.client_id), sent.text)
