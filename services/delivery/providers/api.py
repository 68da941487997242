"""The REST API: who asks is answered in the same call, so nothing is sent and nothing is secret."""

from services.delivery.domain.channels import ChannelKind, Settings


class ApiSettings(Settings, frozen=True):
    """`parley.delivery.v1.ApiSettings`."""


KIND = ChannelKind(ApiSettings)
