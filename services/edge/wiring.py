"""Composition root of the edge."""

from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.dialog import DialogClient, TenantClient
from services.edge import metrics
from services.edge.api_keys import ApiKeys
from services.edge.app import make_app
from services.edge.bodies import Bodies
from services.edge.channels import ChannelMirror
from services.edge.chat import Chat
from services.edge.failure_limit import FailureLimit
from services.edge.health import Health
from services.edge.providers.registry import PROVIDERS
from services.edge.server.addresses import Proxies
from services.edge.server.admission import Admission
from services.edge.server.bounds import Bounds
from services.edge.server.http import HttpServer
from services.edge.settings import EdgeSettings
from services.edge.webhooks import Events, Webhook
from services.runtime.process import open_files
from services.runtime.service import App, Runtime
from services.runtime.verifier import Verifier


async def build(runtime: Runtime, settings: EdgeSettings) -> App:
    """Puts the service together."""
    connections = {name: runtime.connect(name) for name in ("dialog", "delivery", "context", "limits")}
    dialog = DialogClient(connections["dialog"])
    delivery = DeliveryClient(connections["delivery"])
    failures = FailureLimit(settings.edge_max_failures)
    bodies = Bodies(settings.edge_max_body_bytes, settings.edge_body_memory_bytes)
    channels = ChannelMirror(ChannelClient(connections["delivery"]), failures)
    events = Events(dialog, delivery, settings.edge_submit_timeout_seconds)
    default_channels = {"chat2desk": settings.edge_chat2desk_channel}
    webhooks = [
        Webhook(provider, channels, events, bodies, failures, default_channels.get(name))
        for name, provider in PROVIDERS.items()
    ]
    chat = Chat(
        ApiKeys(TenantClient(connections["dialog"]), failures),
        channels,
        dialog,
        bodies,
        timeout=settings.edge_chat_timeout_seconds,
    )
    admission = Admission(bounds_of(settings), Proxies(settings.edge_trusted_proxies))
    metrics.watch(runtime.metrics, admission)
    health = Health(connections, dialog, delivery, Verifier(runtime.keys, "edge"), failures, admission)
    app = make_app(webhooks, chat, health)
    server = HttpServer(app, settings.host, settings.edge_port, drain=settings.drain_seconds, admission=admission)
    return App(background=[channels.watch, server.run])


OTHER_FILES = 128
"""For everything besides the callers' connections."""


def bounds_of(settings: EdgeSettings) -> Bounds:
    """As it is set; no more connections than the process may have open, or it could not even reach other services."""
    allowed = open_files(settings.edge_max_connections + OTHER_FILES) - OTHER_FILES
    return Bounds(
        connections=min(settings.edge_max_connections, max(allowed, 1)),
        connections_per_address=settings.edge_max_connections_per_address,
        requests=settings.edge_max_requests,
        head_bytes=settings.edge_max_header_bytes,
        head_seconds=settings.edge_header_seconds,
        idle_seconds=settings.edge_idle_seconds,
        body_seconds=settings.edge_body_seconds,
        body_bytes=settings.edge_max_body_bytes,
    )
