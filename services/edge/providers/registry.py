"""The providers whose webhooks the edge understands."""

from collections.abc import Mapping

from services.edge.providers import chat2desk
from services.edge.providers.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        chat2desk.PROVIDER,
    )
}  # fmt: skip
