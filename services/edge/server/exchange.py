"""One request and its answer, as the application sees them: ASGI's `receive` and `send`."""

import asyncio
from http import HTTPStatus
from typing import Protocol

from starlette.types import Message, Scope

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = (204, 304)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"


class Line(Protocol):
    """The connection that an exchange is on."""

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None:
        """Returns when the caller has taken what was sent, or is gone."""

    def want(self) -> None:
        """Asks for more of the body."""

    def done(self, exchange: "Exchange") -> None:
        """The answer is complete."""

    def date(self) -> bytes: ...


class Exchange:
    """Holds the part of the body that the application has not read yet, and how far the answer is."""

    def __init__(self, line: Line, scope: Scope, *, keep_alive: bool, expects_continue: bool = False) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.complete = False
        """The request has arrived to its last byte."""
        self.started = False
        self.answered = False
        self.gone = False
        """The caller is gone."""
        self.unread = 0
        """Bytes taken from the network since the application last asked."""
        self.waiting = False
        """The application waits for more of the body."""
        self._line = line
        self._body = bytearray()
        self._told = False
        self._expects_continue = expects_continue
        self._changed = asyncio.Event()
        self._head = b""
        self._chunked = False

    def feed(self, data: bytes) -> None:
        """Takes a piece of the body, unless it is answered already."""
        if not self.answered:
            self._body += data
            self._changed.set()

    def finish(self) -> None:
        """Notes the end of the body."""
        self.complete = True
        self._changed.set()

    def lose(self) -> None:
        """Notes that the caller went away, or took too long."""
        self.gone = True
        self._body.clear()
        self._changed.set()

    async def receive(self) -> Message:
        """Returns the next piece of the body; `http.disconnect` when the caller is gone or has its answer."""
        if self._expects_continue and not (self.started or self.gone):
            self._expects_continue = False
            self._line.write(CONTINUE)
        while not (self.gone or self.answered or self._body or (self.complete and not self._told)):
            self.unread = 0
            self._line.want()
            self._changed.clear()
            self.waiting = True
            await self._changed.wait()
            self.waiting = False
        if self.gone or self.answered:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        self.unread = 0
        self._told = self.complete
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """Sends the answer's head, then its body in pieces. Does nothing when the caller is gone."""
        await self._line.drained()
        if self.gone:
            return
        if message["type"] == "http.response.start":
            if self.started:
                raise RuntimeError("The answer has begun already.")
            self.started = True
            self._head = self._make_head(message)
            return
        if not self.started or self.answered:
            raise RuntimeError(f"{message['type']} out of order.")
        more = bool(message.get("more_body", False))
        data = self._head + self._frame(message.get("body", b""), more)
        self._head = b""
        if data:
            self._line.write(data)
        if not more:
            self._end()

    def _make_head(self, message: Message) -> bytes:
        status, method = int(message["status"]), self.scope["method"]
        lines = [_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._line.date()]
        has_length = False
        for name, value in message.get("headers", ()):
            if b"\r" in value or b"\n" in value:
                raise RuntimeError("A header of the answer has a line break.")
            has_length = has_length or name == b"content-length"
            lines += [name, b": ", value, b"\r\n"]
        if not has_length and method != "HEAD" and status not in _BODILESS:
            self._chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.complete:
            self.keep_alive = False  # the rest of the body is not waited for
        if not self.keep_alive:
            lines.append(CLOSE)
        lines.append(b"\r\n")
        return b"".join(lines)

    def _frame(self, body: bytes, more: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if self._chunked:
            return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        return body

    def _end(self) -> None:
        self.answered = True
        self._body.clear()
        self._changed.set()
        self._line.done(self)
