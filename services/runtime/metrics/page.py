"""A page of metrics over HTTP: `GET /metrics` with a bearer token, one answer a connection."""

import asyncio
from collections.abc import Awaitable, Callable

from services.kernel.errors import ParleyError
from services.runtime.logs import describe, get_logger
from services.runtime.verifier import Verifier

log = get_logger(__name__)

AUDIENCE = "metrics"
"""For whom the tokens are that open a page. They open nothing else."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LARGEST_HEAD = 8192
"""Bytes of a request."""
SECONDS = 10.0
"""For a whole exchange."""
AT_ONCE = 8
"""Connections; further ones are closed."""


class Page:
    """Serves what `text` returns to those who show a token for it."""

    def __init__(self, text: Callable[[], Awaitable[bytes]], verifier: Verifier) -> None:
        """`verifier` verifies tokens for AUDIENCE; they must be for all tenants, as the numbers are about all."""
        self._text = text
        self._verifier = verifier
        self._open = 0
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Begin to serve; returns the port. Raises OSError when it cannot be taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=LARGEST_HEAD)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= AT_ONCE:
                async with asyncio.timeout(SECONDS):
                    writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a request for metrics came to nothing", error=describe(error))
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        if rest.partition(" ")[0].partition("?")[0] != "/metrics":
            return response("404 Not Found", b"The page is /metrics.\n")
        if method != "GET":
            return response("405 Method Not Allowed", b"Use GET.\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._opens(token.strip()):
            return response("401 Unauthorized", b"Show a token for metrics: authorization: Bearer <token>.\n")
        return response("200 OK", await self._text())

    def _opens(self, token: str) -> bool:
        try:
            return self._verifier.verify(token).allows("*")
        except ParleyError:
            return False


def response(status: str, body: bytes) -> bytes:
    challenge = "WWW-Authenticate: Bearer\r\n" if status.startswith("401") else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n{challenge}"
        "Connection: close\r\n\r\n"
    ).encode() + body
