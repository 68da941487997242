"""The providers of channels."""

from collections.abc import Mapping

from services.delivery.domain.channels import ChannelKind, ProviderKind
from services.delivery.providers import api, chat2desk
from services.delivery.providers.base import Provider

PROVIDERS: Mapping[ProviderKind, Provider] = {
    provider.kind: provider
    for provider in (
        chat2desk.PROVIDER,
    )
}  # fmt: skip
"""Those that delivery sends by."""
KINDS: Mapping[ProviderKind, ChannelKind] = {ProviderKind.API: api.KIND} | {
    kind: provider.channels for kind, provider in PROVIDERS.items()
}
"""What the channels of each have, also of the REST API, whose callers get their replies themselves."""
