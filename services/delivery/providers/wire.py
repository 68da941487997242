"""HTTP/1.1 on the wire: one request at a time on a connection that is kept alive."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

MAX_ANSWER = 64 * 1024
"""Bytes of a body that are read; no provider's answer to a send comes near."""
MAX_AROUND = 64 * 1024
"""Bytes of headers, trailers and answers before the answer that are kept."""


class Disconnected(Exception):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    host: str
    port: int
    tls: bool
    path: str
    authority: str
    """As the header `Host` has it."""

    @staticmethod
    def of(url: str) -> "Target":
        """Raises ValueError when it is no http or https address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http or https address")
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        shown = f"[{host}]" if ":" in host else host
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(host, port, tls, path, shown if parts.port is None else f"{shown}:{port}")

    @property
    def origin(self) -> tuple[str, int, bool]:
        return self.host, self.port, self.tls


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers` have names in lower case; of several of one name the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire(asyncio.Protocol):
    """One connection. `idle` is called when an answer is there and the connection can be used again."""

    def __init__(self, idle: Callable[["Wire"], None]) -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Hands a request to the network. The future raises Disconnected."""
        assert self._transport is not None
        assert self._answer is None
        self._begin()
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return answer

    def close(self) -> None:
        """Ends the connection; who waits for an answer gets Disconnected."""
        if self._transport is not None:
            self._transport.abort()
        self._fail("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: a server that says goodbye, or one that is confused
            self.close()
            return
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("no HTTP")
            self.close()
        if self._came - self._size > MAX_AROUND:
            self._fail("an endless answer")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and self._headed and self._until_end:
            self._complete()
        else:
            self._fail(type(exc).__name__ if exc is not None else "connection closed")

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headed = self._parser.get_status_code() >= 200
        self._until_end = "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_ANSWER:
            self._body.append(body)
        elif self._answer is not None:
            self._complete()
            self.close()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # 100 Continue and the like come before the answer
            self._headers.clear()
            return
        if self._answer is not None:
            self._complete()
            if self.usable and self._parser.should_keep_alive():
                self._idle(self)
            else:
                self.close()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._came = self._size = 0
        self._headed = self._until_end = False

    def _complete(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(Disconnected(why))


def tls_context() -> ssl.SSLContext:
    """Certificates are checked against the system's authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
