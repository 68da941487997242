"""Composition root of the edge."""

from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.dialog import DialogClient, TenantClient
from services.edge.api_keys import ApiKeys
from services.edge.app import make_app
from services.edge.channels import ChannelMirror
from services.edge.chat import Chat
from services.edge.health import Health
from services.edge.http import HttpServer
from services.edge.settings import EdgeSettings
from services.edge.webhooks import Chat2DeskWebhook
from services.runtime.service import App, Runtime


async def build(runtime: Runtime, settings: EdgeSettings) -> App:
    """Put the service together."""
    connections = {name: runtime.connect(name) for name in ("dialog", "delivery", "context", "limits")}
    dialog = DialogClient(connections["dialog"])
    delivery = DeliveryClient(connections["delivery"])
    channels = ChannelMirror(ChannelClient(connections["delivery"]))
    webhook = Chat2DeskWebhook(
        channels,
        dialog,
        delivery,
        max_body=settings.edge_max_body_bytes,
        submit_timeout=settings.edge_submit_timeout_seconds,
        default_channel=settings.edge_chat2desk_channel,
    )
    chat = Chat(
        ApiKeys(TenantClient(connections["dialog"])),
        channels,
        dialog,
        max_body=settings.edge_max_body_bytes,
        timeout=settings.edge_chat_timeout_seconds,
    )
    app = make_app(webhook, chat, Health(connections, dialog, delivery))
    server = HttpServer(app, settings.host, settings.edge_port, drain=settings.drain_seconds)
    return App(background=[channels.watch, server.run])
