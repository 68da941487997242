"""Calls providers over HTTP, and tells a request that never left from one that got no answer."""

import asyncio
import math
from contextlib import suppress
from enum import Enum, auto

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from aiohttp.http import HttpProcessingError
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from yarl import URL

from services.delivery.providers.connections import (
    MAX_BODY,
    MAX_HEAD,
    Connector,
    EndlessAnswer,
    JudgingResolver,
    NotConnected,
)
from services.delivery.providers.exchanges import Answer, NoAnswer, NotSent, Request, Result, target
from services.delivery.providers.proxies import EnvironmentProxies, parse
from services.runtime.egress import Egress, Refused
from services.runtime.tracing.spans import tracer

_NOT_ADDED = ("Accept", "Accept-Encoding", "User-Agent")
"""Headers that aiohttp would add. An answer that is not compressed needs no bound on what it unpacks to."""


class HttpClient:
    """Keeps connections alive, and ends every call in time.

    It follows no redirect, as a token is for the address it was given for, and keeps no cookies. A call goes through
    the proxy that it names, or else through the one that the environment names for its host.
    """

    def __init__(
        self, egress: Egress, *, timeout: float = 10.0, connections: int = 128, keepalive: float = 15.0
    ) -> None:
        """`timeout`: seconds for a call that names no other. `connections`: to one host at most.

        `keepalive`: seconds for which an idle connection is kept; fewer than servers keep theirs, so that no request
        meets a connection that is just being closed. Raises ValueError for a proxy of the environment that is none.
        """
        self.timeout = timeout
        self._egress = egress
        self._connections = connections
        self._keepalive = keepalive
        self._proxies = EnvironmentProxies()
        self._sessions: dict[_Road, ClientSession] = {}

    async def call(self, request: Request) -> Result:
        """Makes a request once; only a GET is made again when a kept connection turns out to be closed."""
        if not trace.get_current_span().is_recording():
            return await self._call(request)
        span = tracer("parley.delivery").start_span(request.method, kind=SpanKind.CLIENT)
        try:
            result = await self._call(request)
            _describe(span, request, result)
            return result
        finally:
            span.end()

    async def close(self) -> None:
        """Closes all connections."""
        for session in self._sessions.values():
            await session.close()

    async def _call(self, request: Request) -> Result:
        loop = asyncio.get_running_loop()
        seconds = request.timeout or self.timeout
        ends = loop.time() + seconds
        try:
            request.check()
            url = target(request.url)
            road, proxy = await self._road(url, request.proxy, seconds / 2)
        except Refused as error:
            return _not_sent(error)
        except ValueError as error:
            return NotSent(str(error), wrong_address=True)
        # Connecting has half of the time that is left, so when all of it is over, the request has left.
        left = ends - loop.time()
        limits = ClientTimeout(total=left, connect=left / 2, sock_connect=left / 2, ceil_threshold=math.inf)
        try:
            async with self._session(road).request(
                request.method,
                url,
                data=request.body,
                headers=request.headers,
                skip_auto_headers=("Content-Type",) if isinstance(request.body, bytes) else None,
                proxy=proxy,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                return await _read(response)
        except NotConnected as error:
            return _not_sent(error.__cause__)
        except TimeoutError:
            return NoAnswer(f"no answer within {seconds:g} s")
        except (ClientError, HttpProcessingError, OSError) as error:
            return NoAnswer(_what_came(error))

    async def _road(self, url: URL, proxy: str, seconds: float) -> tuple["_Road", URL | None]:
        """Finds the way to a target, and the proxy on it. Raises Refused for what the policy does not allow.

        A proxy that the request names is judged like any address; what lies behind it is its own affair. The one of
        the environment is the operator's and may be connected to. But it may not refuse what the policy does, so the
        target is judged here if its name can be resolved within so many seconds.
        """
        host, tls = url.raw_host or "", url.scheme == "https"
        self._egress.permit(host, tls=tls)
        if proxy:
            address = parse(proxy, "the proxy")
            self._egress.permit(address.raw_host or "", tls=True)
            if not tls:
                raise Refused("must begin with https:// where there is a proxy")
            return _Road.PUBLIC, address
        known = self._proxies.find(host, tls=tls)
        if known is None:
            return _Road.PUBLIC if tls else _Road.ALLOWED, None
        with suppress(OSError):
            async with asyncio.timeout(seconds):
                await self._egress.resolve(host, url.port or 0, tls=tls)
        return _Road.PROXY, known

    def _session(self, road: "_Road") -> ClientSession:
        session = self._sessions.get(road)
        if session is None:
            resolver = None if road is _Road.PROXY else JudgingResolver(self._egress, tls=road is _Road.PUBLIC)
            connector = Connector(resolver, connections=self._connections, keepalive=self._keepalive)
            session = self._sessions[road] = ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                skip_auto_headers=_NOT_ADDED,
                auto_decompress=False,
                max_line_size=MAX_HEAD,
                max_field_size=MAX_HEAD,
                max_headers=MAX_HEAD,
            )
        return session


class _Road(Enum):
    """Where the connections of a session may lead."""

    ALLOWED = auto()
    """To the networks that a setting allows, without TLS."""
    PUBLIC = auto()
    """Also to public addresses, by TLS."""
    PROXY = auto()
    """To a proxy that the environment names."""


async def _read(response: ClientResponse) -> Answer:
    pieces, size = [], 0
    while size <= MAX_BODY and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    if size > MAX_BODY:
        response.close()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, b"".join(pieces)[:MAX_BODY])


def _not_sent(error: BaseException | None) -> NotSent:
    """Why there is no connection, without addresses or anything that was to be sent."""
    match error:
        case Refused():
            return NotSent(f"the address {error}", wrong_address=True)
        case TimeoutError():
            return NotSent("no connection in time")
        case ClientConnectorError():
            return _not_sent(error.os_error)
        case ClientHttpProxyError():
            return NotSent(f"the proxy answered {error.status}")
        case OSError():
            address = "(" in (error.strerror or "")  # it stands in brackets
            detail = "" if address or not error.strerror else f": {error.strerror}"
            return NotSent(f"{type(error).__name__}{detail}")
        case ValueError() | OverflowError():
            return NotSent(f"no connection can be made: {error}", wrong_address=True)
    return NotSent(type(error).__name__)


def _what_came(error: Exception) -> str:
    match error:
        case EndlessAnswer():
            return "an endless answer"
        case ClientResponseError() | HttpProcessingError():
            return "no HTTP"
        case ClientPayloadError() | ClientConnectionError():
            return "connection closed"
    return type(error).__name__


def _describe(span: Span, request: Request, result: Result) -> None:
    span.set_attribute("http.request.method", request.method)
    with suppress(ValueError):  # a result says so
        url = target(request.url)
        span.set_attributes(
            {
                "server.address": url.raw_host or "",
                "server.port": url.port or 0,
                "url.scheme": url.scheme,
                "url.path": url.raw_path_qs,
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
