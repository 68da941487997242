"""One HTTP client for all providers' calls. It tells a request that never left from an unanswered one.

It is written here because that difference is the point of it, and because a call costs it some 30 microseconds of
processor time where a general client takes 200: a third of what the whole outbox may spend on a message.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from services.delivery.providers.wire import Answer, Disconnected, Target, Wire, tls_context


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left: no connection in time. Trying again cannot send twice."""

    error: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request left, wholly or in part, and no whole answer came."""

    error: str


class _Origin:
    """Connections to one host: those that are idle, and how many more there may be."""

    def __init__(self, connections: int) -> None:
        self.places = asyncio.Semaphore(connections)
        self.idle: list[Wire] = []


class HttpClient:
    """Keeps connections alive, and ends every call within `timeout` seconds."""

    def __init__(self, *, timeout: float = 10.0, connections: int = 128, keepalive: float = 15.0) -> None:
        """`connections`: to one host at most. `keepalive`: seconds for which an idle connection is kept.

        It is shorter than servers keep theirs, so that no request meets a connection that is just being closed.
        """
        self.timeout = timeout
        self._connections = connections
        self._keepalive = keepalive
        self._origins: dict[tuple[str, int, bool], _Origin] = {}
        self._tls: ssl.SSLContext | None = None

    async def post(self, target: Target, *, headers: Mapping[str, str], body: bytes) -> Answer | NotSent | NoAnswer:
        """One POST. Redirects are not followed: a token is for the address it was given for."""
        if not trace.get_current_span().is_recording():
            return await self._post(target, headers, body)
        span = trace.get_tracer("parley.delivery").start_span("POST", kind=SpanKind.CLIENT)
        try:
            result = await self._post(target, headers, body)
            _describe(span, target, result)
            return result
        finally:
            span.end()

    async def close(self) -> None:
        """Closes idle connections."""
        for origin in self._origins.values():
            while origin.idle:
                origin.idle.pop().close()

    async def _post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer | NotSent | NoAnswer:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.timeout
        request = _request(target, headers, body)
        origin = self._origins.get(target.origin)
        if origin is None:
            origin = self._origins[target.origin] = _Origin(self._connections)
        if origin.places.locked():
            try:
                await asyncio.wait_for(origin.places.acquire(), self.timeout / 2)
            except TimeoutError:
                return NotSent("no connection in time")
        else:
            await origin.places.acquire()
        try:
            wire = self._kept(origin, loop.time())
            if wire is None:
                try:
                    wire = await self._connect(target, origin)
                except (OSError, TimeoutError, ssl.CertificateError) as error:
                    return NotSent(_words(error))
            return await self._ask(wire, request, ends)
        finally:
            origin.places.release()

    async def _ask(self, wire: Wire, request: bytes, ends: float) -> Answer | NoAnswer:
        loop = asyncio.get_running_loop()
        answer = wire.ask(request)
        timer = loop.call_at(ends, wire.close)
        try:
            return await answer
        except Disconnected as error:
            if loop.time() >= ends:
                return NoAnswer(f"no answer within {self.timeout:g} s")
            return NoAnswer(str(error))
        except asyncio.CancelledError:
            wire.close()
            raise
        finally:
            timer.cancel()

    def _kept(self, origin: _Origin, now: float) -> Wire | None:
        """The idle connection that was used last; older ones may come to their end."""
        while origin.idle:
            wire = origin.idle.pop()
            if wire.usable and now - wire.idle_since < self._keepalive:
                return wire
            wire.close()
        return None

    async def _connect(self, target: Target, origin: _Origin) -> Wire:
        loop = asyncio.get_running_loop()

        def idle(wire: Wire) -> None:
            wire.idle_since = loop.time()
            origin.idle.append(wire)

        if target.tls and self._tls is None:
            self._tls = await asyncio.to_thread(tls_context)
        async with asyncio.timeout(self.timeout / 2):
            _, wire = await loop.create_connection(
                lambda: Wire(idle), target.host, target.port, ssl=self._tls if target.tls else None
            )
        return wire


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {target.path} HTTP/1.1", f"Host: {target.authority}", f"Content-Length: {len(body)}"]
    lines.extend(f"{name}: {value}" for name, value in headers.items())
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a line break in a header")
    return head.encode("latin-1") + b"\r\n\r\n" + body


def _words(error: BaseException) -> str:
    """What happened, without addresses or anything that was sent."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    detail = error.strerror if isinstance(error, OSError) and error.strerror else ""
    detail = "" if "(" in detail else detail  # a connection's address stands there
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__


def _describe(span: Span, target: Target, result: Answer | NotSent | NoAnswer) -> None:
    span.set_attributes(
        {
            "http.request.method": "POST",
            "server.address": target.host,
            "server.port": target.port,
            "url.scheme": "https" if target.tls else "http",
            "url.path": target.path,
        }
    )
    if isinstance(result, Answer):
        span.set_attribute("http.response.status_code", result.status)
        if result.status >= 400:
            span.set_attribute("error.type", str(result.status))
            span.set_status(StatusCode.ERROR)
    else:
        span.set_attribute("error.type", type(result).__name__)
        span.set_status(StatusCode.ERROR, result.error)
