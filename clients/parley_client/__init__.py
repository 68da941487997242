"""Typed clients for Parley's services: one class per service, one method per RPC.

    async with connect("127.0.0.1:50051", audience="context", tokens=token) as connection:
        known = await ContextClient(connection).get_context(context_pb2.GetContextRequest(...), timeout=1.0)

    with blocking.connect("127.0.0.1:50051", audience="context", tokens=token) as connection:
        known = ContextClient(connection).get_context(context_pb2.GetContextRequest(...), timeout=1.0)

Every failure is a `CallError`. The protos describe the methods, the requests and the responses.
"""

from parley_client import blocking
from parley_client.blocking import BlockingConnection
from parley_client.channel import Connection, connect
from parley_client.context import ContextClient
from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.dialog import BotClient, DialogClient, OrderClient, TenantClient
from parley_client.errors import (
    Aborted,
    AlreadyExists,
    CallError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from parley_client.limits import LimitsClient
from parley_client.telemetry import TelemetryClient
from parley_client.tokens import RenewedToken, StaticToken, TokenSource

__all__ = [
    "Aborted",
    "AlreadyExists",
    "BlockingConnection",
    "BotClient",
    "CallError",
    "ChannelClient",
    "Connection",
    "ContextClient",
    "DeadlineExceeded",
    "DeliveryClient",
    "DialogClient",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "LimitsClient",
    "NotFound",
    "OrderClient",
    "PermissionDenied",
    "RenewedToken",
    "ResourceExhausted",
    "StaticToken",
    "TelemetryClient",
    "TenantClient",
    "TokenSource",
    "Unauthenticated",
    "Unavailable",
    "blocking",
    "connect",
]
