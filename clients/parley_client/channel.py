"""Connections to services."""

import json
from types import TracebackType
from typing import Self

import grpc

from parley_client.tokens import Tokens, source_of

MAX_MESSAGE_BYTES = 8 * 1024 * 1024

# Repeating a call is safe, because every mutation has a request id or a dedupe key. An empty name stands for all
# methods. There is no `timeout` here, because grpc.aio ignores it.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # When most calls fail, repeating all of them only adds load.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A restarted server is found within a moment.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # this is also how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # Pings reveal a peer that vanished. Servers must allow them this often.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # otherwise a minute, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Connections of one process to the same address share neither their backoff nor their load.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class Caller:
    """Makes the headers of all calls to one service. Safe to use from several threads."""

    def __init__(self, audience: str, tokens: Tokens) -> None:
        self.audience = audience
        self._tokens = source_of(tokens)
        # One attribute for both, so that no thread sees one without the other.
        self._known: tuple[str, tuple[tuple[str, str], ...]] = ("", ())

    def authorization(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata that says who calls."""
        token = self._tokens.token(self.audience)
        known, metadata = self._known
        if token != known:
            metadata = (("authorization", f"Bearer {token}"),)
            self._known = token, metadata
        return metadata

    def metadata(self, traceparent: str, tracestate: str) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of one call, without empty trace headers."""
        if not traceparent:
            return self.authorization()
        if not tracestate:
            return (*self.authorization(), ("traceparent", traceparent))
        return (*self.authorization(), ("traceparent", traceparent), ("tracestate", tracestate))


class Connection(Caller):
    """A channel to one service and the tokens for it. Make as many clients on it as you like; close it after them."""

    def __init__(self, channel: grpc.aio.Channel, audience: str, tokens: Tokens) -> None:
        super().__init__(audience, tokens)
        self.channel = channel

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel. Running calls get `grace` seconds and are then cancelled."""
        await self.channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def connect(
    address: str,
    *,
    audience: str,
    tokens: Tokens,
    credentials: grpc.ChannelCredentials | None = None,
) -> Connection:
    """Makes a connection to `address`: `host:port` or any gRPC target, such as `dns:///name:port` for many replicas.

    Nothing is sent before the first call. `audience` is the service's name, for its tokens. `credentials` turn on TLS;
    without them the connection is plain.
    """
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
    return Connection(channel, audience, tokens)
