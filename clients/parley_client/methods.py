"""How a client class declares the RPCs of its service.

    class OrderClient(Client[Conn]):
        service = "parley.dialog.v1.OrderService"
        list_orders = Unary(pb.ListOrdersRequest, pb.ListOrdersResponse)

The attribute's name in CamelCase is the RPC's name. One declaration serves both kinds of client: the connection decides
whether methods are awaited or block.
"""

from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import typing_extensions
from google.protobuf.message import Message

from parley_client.blocking import BlockingConnection, BlockingStreamCall, BlockingUnaryCall
from parley_client.calls import CoalescedCall, StreamCall, UnaryCall
from parley_client.channel import Caller, Connection

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Call = TypeVar("Call")
BlockingCall = TypeVar("BlockingCall")
Conn = typing_extensions.TypeVar("Conn", bound=Caller, default=Connection)
"""The kind of connection: `DialogClient` is awaited, `DialogClient[BlockingConnection]` blocks."""

DEFAULT_TIMEOUT = 5.0
"""Seconds that a call may take unless the RPC or the caller says otherwise."""


class Client(Generic[Conn]):
    """The client for a service. `service` is the service's full name in its proto."""

    service: ClassVar[str]

    def __init__(self, connection: Conn) -> None:
        self.connection = connection


class Method(Generic[Call, BlockingCall]):
    """An RPC that a client class declares. On an instance it becomes the callable, made at first use."""

    def __init__(self, request: type[Message], response: type[Message]) -> None:
        self.request, self.response = request, response
        self.name, self.rpc = "", ""

    def __set_name__(self, owner: type[Client[Any]], name: str) -> None:
        self.name = name
        self.rpc = "".join(part.capitalize() for part in name.split("_"))

    @overload
    def __get__(self, client: None, owner: type[Client[Any]]) -> Self: ...

    @overload
    def __get__(self, client: Client[Connection], owner: type[Client[Any]]) -> Call: ...

    @overload
    def __get__(self, client: Client[BlockingConnection], owner: type[Client[Any]]) -> BlockingCall: ...

    def __get__(self, client: Client[Any] | None, owner: type[Client[Any]]) -> Self | Call | BlockingCall:
        if client is None:
            return self
        connection, method = client.connection, f"{owner.service}/{self.rpc}"
        blocks = isinstance(connection, BlockingConnection)
        call = self.bind_blocking(connection, method) if blocks else self.bind(connection, method)
        client.__dict__[self.name] = call  # from now on found before this descriptor
        return call

    def bind(self, connection: Connection, method: str) -> Call:
        raise NotImplementedError

    def bind_blocking(self, connection: BlockingConnection, method: str) -> BlockingCall:
        raise NotImplementedError


class Unary(Method[UnaryCall[Req, Res], BlockingUnaryCall[Req, Res]]):
    """One request, one response."""

    def __init__(self, request: type[Req], response: type[Res], *, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(request, response)
        self._types, self.timeout = (request, response), timeout

    def bind(self, connection: Connection, method: str) -> UnaryCall[Req, Res]:
        return UnaryCall(connection, method, *self._types, self.timeout)

    def bind_blocking(self, connection: BlockingConnection, method: str) -> BlockingUnaryCall[Req, Res]:
        return BlockingUnaryCall(connection, method, *self._types, self.timeout)


class Stream(Method[StreamCall[Req, Res], BlockingStreamCall[Req, Res]]):
    """One request, many responses. With a `timeout` of None, the stream runs until somebody ends it."""

    def __init__(self, request: type[Req], response: type[Res], *, timeout: float | None) -> None:
        super().__init__(request, response)
        self._types, self.timeout = (request, response), timeout

    def bind(self, connection: Connection, method: str) -> StreamCall[Req, Res]:
        return StreamCall(connection, method, *self._types, self.timeout)

    def bind_blocking(self, connection: BlockingConnection, method: str) -> BlockingStreamCall[Req, Res]:
        return BlockingStreamCall(connection, method, *self._types, self.timeout)


class Coalesced(Method[CoalescedCall[Req, Res], BlockingUnaryCall[Req, Res]]):
    """One request, one response, sent by the RPC's Batch twin, whose messages are given too. A blocking client
    calls the RPC itself.

    Under load, calls wait `gather` seconds for each other.
    """

    def __init__(
        self,
        request: type[Req],
        response: type[Res],
        batch: type[Any],
        batch_response: type[Any],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        gather: float = 0.0,
    ) -> None:
        super().__init__(request, response)
        self._types, self.timeout = (request, response), timeout
        self.batch, self.batch_response, self.gather = batch, batch_response, gather

    def bind(self, connection: Connection, method: str) -> CoalescedCall[Req, Res]:
        return CoalescedCall(connection, method, self.batch, self.batch_response, self.timeout, self.gather)

    def bind_blocking(self, connection: BlockingConnection, method: str) -> BlockingUnaryCall[Req, Res]:
        return BlockingUnaryCall(connection, method, *self._types, self.timeout)
