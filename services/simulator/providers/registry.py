"""The messengers that the simulator stands in for."""

from collections.abc import Mapping

from services.simulator.providers import chat2desk
from services.simulator.providers.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        chat2desk.PROVIDER,
    )
}  # fmt: skip
