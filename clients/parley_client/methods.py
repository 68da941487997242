"""How a client declares the RPCs of its service.

    class OrderClient(Client):
        service = "parley.dialog.v1.OrderService"
        list_orders = Unary(pb.ListOrdersRequest, pb.ListOrdersResponse)

The name of the attribute in CamelCase is the RPC's.
"""

from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from google.protobuf.message import Message

from parley_client.calls import CoalescedCall, StreamCall, UnaryCall
from parley_client.channel import Connection

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Call = TypeVar("Call")

DEFAULT_TIMEOUT = 5.0
"""Seconds that a call may take when neither the RPC nor the caller says otherwise."""


class Client:
    """A service's client. `service` is the full name of the service in its proto."""

    service: ClassVar[str]

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class Method(Generic[Call]):
    """An RPC as a client class declares it. An instance has the callable in its place, made at first use."""

    def __init__(self, request: type[Message], response: type[Message]) -> None:
        self.request, self.response = request, response
        self.name, self.rpc = "", ""

    def __set_name__(self, owner: type[Client], name: str) -> None:
        self.name = name
        self.rpc = "".join(part.capitalize() for part in name.split("_"))

    @overload
    def __get__(self, client: None, owner: type[Client]) -> Self: ...

    @overload
    def __get__(self, client: Client, owner: type[Client]) -> Call: ...

    def __get__(self, client: Client | None, owner: type[Client]) -> Self | Call:
        if client is None:
            return self
        call = self.bind(client.connection, f"{owner.service}/{self.rpc}")
        client.__dict__[self.name] = call  # found before this descriptor from now on
        return call

    def bind(self, connection: Connection, method: str) -> Call:
        raise NotImplementedError


class Unary(Method[UnaryCall[Req, Res]]):
    """One request, one response."""

    def __init__(self, request: type[Req], response: type[Res], *, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(request, response)
        self._types, self.timeout = (request, response), timeout

    def bind(self, connection: Connection, method: str) -> UnaryCall[Req, Res]:
        return UnaryCall(connection, method, *self._types, self.timeout)


class Stream(Method[StreamCall[Req, Res]]):
    """One request, many responses. A `timeout` of None: until somebody ends it."""

    def __init__(self, request: type[Req], response: type[Res], *, timeout: float | None) -> None:
        super().__init__(request, response)
        self._types, self.timeout = (request, response), timeout

    def bind(self, connection: Connection, method: str) -> StreamCall[Req, Res]:
        return StreamCall(connection, method, *self._types, self.timeout)


class Coalesced(Method[CoalescedCall[Req, Res]]):
    """One request, one response; carried by the RPC's Batch twin, whose messages are given too.

    While there is much company, calls wait `gather` seconds for each other.
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
        self.batch, self.batch_response, self.timeout, self.gather = batch, batch_response, timeout, gather

    def bind(self, connection: Connection, method: str) -> CoalescedCall[Req, Res]:
        return CoalescedCall(connection, method, self.batch, self.batch_response, self.timeout, self.gather)
