"""Parses requests, with bounds on what stands before a body, after it, and around its chunks."""

from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from services.edge.problems import Problem
from services.edge.server.bounds import Bounds

HEAD_TOO_LARGE = Problem(431, "HEADERS_TOO_LARGE", "The headers are larger, or more, than the edge reads.")
NOT_HTTP = Problem(400, "INVALID_HTTP", "This is not a request of HTTP/1.1.")
_FRAMING = (b"content-length", b"transfer-encoding")


class RequestHandler(Protocol):
    """Is told of requests as they arrive."""

    def begun(self, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        """The head of a request has arrived."""

    def body(self, data: bytes) -> None:
        """A piece of its body has arrived."""

    def complete(self) -> None:
        """The request has ended."""


class RequestParser:
    """Tells a handler of requests. When `refusal` is set, or after `stop`, nothing more is parsed."""

    def __init__(self, bounds: Bounds, handler: RequestHandler) -> None:
        self.refusal: Problem | None = None
        """What is wrong with the request that is being read."""
        self.in_head = True
        """It is between two requests, or in the headers of one."""
        self.head_bytes = 0
        """Bytes received of a request's unfinished head, but for those that came with the end of the request before."""
        self.stopped = False
        self._bounds = bounds
        self._handler = handler
        self._parser: Any = httptools.HttpRequestParser(self)
        self._declining = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._counted = 0

    def feed(self, data: bytes) -> None:
        """Parses what came from the network."""
        if self.in_head:
            self.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(NOT_HTTP)
        if self.in_head and self.head_bytes > self._bounds.head_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def stop(self) -> None:
        """Parses nothing more."""
        self.stopped = True

    def close(self) -> None:
        """Lets go of the handler, so that no cycle is left for the garbage collector."""
        self.stopped = True
        del self._parser, self._handler

    # Called by httptools.

    def on_message_begin(self) -> None:
        if not self._declining:
            self._url, self._headers, self._counted = b"", [], 0

    def on_url(self, url: bytes) -> None:
        if self._count(len(url)):
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header of the head. One of a trailer is counted only."""
        if self._count(len(name) + len(value)) and self.in_head:
            self._headers.append((name.lower(), value))
            if len(self._headers) > self._bounds.headers:
                self._refuse(HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self.in_head, self.head_bytes = False, 0
        if self.stopped or self.refusal is not None or self._declining:
            return
        try:
            scope = self._scope()
        except (ValueError, httptools.HttpParserError):
            self._refuse(NOT_HTTP)
            return
        # A client of HTTP/1.0 knows no `100 Continue`, and expects the connection to end with the answer.
        modern = scope["http_version"] == "1.1"
        expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers)
        keep_alive = modern and bool(self._parser.should_keep_alive())
        self._handler.begun(scope, keep_alive=keep_alive, expects_continue=modern and expects)

    def on_body(self, body: bytes) -> None:
        if not self.stopped:
            self._handler.body(body)

    def on_message_complete(self) -> None:
        if self.refusal is not None or (self._parser.should_upgrade() and not self._declining):
            return
        self.in_head, self.head_bytes = True, 0
        if not self.stopped:
            self._handler.complete()

    # The inner workings.

    def _scope(self) -> Scope:
        """Raises ValueError or HttpParserError for an address that is not one."""
        url = httptools.parse_url(self._url)
        path = (url.path or b"/").decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self._parser.get_http_version(),
            "method": self._parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self._headers,
        }

    def _count(self, size: int) -> bool:
        """Counts bytes of headers, and returns whether there is room for them."""
        if self.stopped or self._declining or self.refusal is not None:
            return False
        self._counted += size
        if self._counted > self._bounds.head_bytes:
            self._refuse(HEAD_TOO_LARGE)
        return self.refusal is None

    def _refuse(self, problem: Problem) -> None:
        if not self.stopped and self.refusal is None:
            self.refusal = problem

    def _decline_upgrade(self, rest: bytes) -> None:
        """Goes on as if no upgrade was asked for. httptools skips the body then, so a new parser reads that."""
        lines = b"".join(b"%b: %b\r\n" % header for header in self._headers if header[0] in _FRAMING)
        self._parser = httptools.HttpRequestParser(self)
        self._declining = True
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
        except httptools.HttpParserError:
            self._refuse(NOT_HTTP)
        self._declining = False
        if rest and not self.stopped:
            self.feed(rest)
