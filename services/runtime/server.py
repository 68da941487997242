"""The gRPC server of a service."""

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import validation
from services.runtime.app import App
from services.runtime.health import Health
from services.runtime.interceptors.defaults import interceptors
from services.runtime.interceptors.streams import Streams
from services.runtime.keys import Keys
from services.runtime.methods import MAX_MESSAGE_BYTES, methods_of
from services.runtime.pages import Signer
from services.runtime.settings import Settings
from services.runtime.verifier import Verifier

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two processes on one port would share its calls without anyone knowing.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # a minute otherwise, whatever the one above says
    # Clients ping idle connections, so that a dead peer is found before the next call.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class Server:
    """Serves an app until it is stopped."""

    def __init__(self, name: str, app: App, settings: Settings, keys: Keys) -> None:
        services = [service for service, _, _ in app.servicers]
        methods = methods_of(services, app.extra_access)
        self.health = Health(services, app.checks, settings.check_seconds, app.spared)
        self._streams = Streams(methods)
        signer = Signer(keys, name)
        chain = interceptors(methods, Verifier(keys, name), signer, self._streams, settings.default_deadline_seconds)
        self._server = grpc.aio.server(interceptors=chain, options=OPTIONS)
        for _, add, servicer in app.servicers:
            add(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self._server)
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)

    async def start(self, addresses: Sequence[str]) -> list[int]:
        """Listens and returns the ports. Raises `RuntimeError` if one is taken."""
        validation.warm()
        ports = [self._server.add_insecure_port(address) for address in addresses]
        await self.health.look()
        await self._server.start()
        return ports

    async def stop(self, grace: float) -> None:
        """Reports that nothing is served, ends endless streams, and lets calls finish for `grace` seconds."""
        await self.health.stop_serving()
        self._streams.drain()
        await self._server.stop(grace)
