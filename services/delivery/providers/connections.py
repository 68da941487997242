"""Connections to providers: where they may lead, and how much of an answer they take in."""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import ClientError, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from services.runtime.egress import Egress

MAX_BODY = 64 * 1024
"""Bytes of a body that are read; no provider's answer to a call comes near."""
MAX_HEAD = 64 * 1024
"""Bytes of headers, and of the interim answers before them, that are taken in."""
_MAX_ALL = 16 * MAX_BODY
"""Bytes of an answer that are taken in altogether; reading pauses far below this while nobody asks for more."""


class NotConnected(Exception):
    """There is no connection, and nothing of the request has left; the cause tells why."""


class EndlessAnswer(ClientError):
    """The answer is larger than any answer to a call can be."""


class Connector(TCPConnector):
    """Connects only to addresses that the policy allows, and tells a failure to connect from all others."""

    def __init__(self, resolver: AbstractResolver | None, *, connections: int, keepalive: float) -> None:
        super().__init__(resolver=resolver, limit=0, limit_per_host=connections, keepalive_timeout=keepalive)
        # aiohttp bounds one header and their number, but not the interim answers (100 Continue) before an answer.
        protocol: Callable[..., ResponseHandler] = _Protocol
        self._factory = partial(protocol, loop=self._loop)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        try:
            return await super().connect(req, traces, timeout)
        except Exception as error:
            raise NotConnected from error


class JudgingResolver(AbstractResolver):
    """Resolves names to the addresses that the policy allows.

    The connection goes to an address that was judged, whatever the name leads to by then. aiohttp does not ask for
    addresses that need no resolving: the client has those judged itself.
    """

    def __init__(self, egress: Egress, *, tls: bool) -> None:
        self._egress = egress
        self._tls = tls

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises Refused when no address is allowed, OSError for an unknown name, and ValueError for what is none."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._egress.resolve(host, port, tls=self._tls)
        ]

    async def close(self) -> None:
        """Holds nothing."""


class _Protocol(ResponseHandler):
    """A connection that ends when an answer does not."""

    _came = 0
    _headed = False

    def set_response_params(self, **params: Any) -> None:
        self._came, self._headed = 0, False
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head of an answer; interim ones are dropped here."""
        if data[0].code < 200:
            return
        self._headed = True
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        room = (_MAX_ALL if self._headed else MAX_HEAD) - self._came
        self._came += len(data)
        super().data_received(data[:room])
        if len(data) <= room:
            return
        if self._headed and self._came <= _MAX_ALL:
            super().data_received(data[room:])
            return
        error = EndlessAnswer()
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()
