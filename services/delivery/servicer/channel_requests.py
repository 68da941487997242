"""What requests say of a channel, checked against what its provider's channels have."""

import re
import secrets as random

from google.protobuf.field_mask_pb2 import FieldMask

from parley.delivery.v1 import channel_pb2 as pb

from services.delivery.domain.channels import Channel, ChannelKind, ChannelValues, ProviderKind, Settings
from services.delivery.servicer.protos import settings_message, settings_of
from services.kernel.errors import FieldViolation, Kind, ParleyError, invalid_field

CHANGEABLE = frozenset({"bot_id", "settings", "api_base"})


def new_values(request: pb.CreateChannelRequest, kind: ChannelKind) -> ChannelValues:
    """A new channel's values. Raises INVALID_FIELD."""
    channel = request.channel
    settings = channel.settings
    if not channel.HasField("settings"):
        settings = settings_message(ProviderKind(channel.provider), kind.settings())
        _set_api_base(settings, channel.api_base)
    made = {secret.name: random.token_urlsafe(24) for secret in kind.secrets if secret.made}
    return ChannelValues(
        bot_id=channel.bot_id,
        settings=_checked(settings, ProviderKind(channel.provider), kind),
        secrets=made | _given_secrets(request.secrets, kind),
    )


def changed_values(request: pb.UpdateChannelRequest, before: Channel, kind: ChannelKind) -> ChannelValues:
    """What an update changes. New settings, and new secrets for the provider's API, clear the mark that the old ones
    have left. Raises INVALID_UPDATE_MASK and INVALID_FIELD."""
    paths = set(request.update_mask.paths)
    for path in sorted(paths):
        _check_path(path)
    secrets = _given_secrets(request.secrets, kind)
    if not paths and not secrets:
        raise invalid_field("update_mask", "names nothing, and no secret is given: nothing would change")
    settings = _merged_settings(request.channel, paths - {"bot_id"}, before, kind)
    mends = settings is not None or any(not secret.edge and secret.name in secrets for secret in kind.secrets)
    return ChannelValues(
        bot_id=request.channel.bot_id if "bot_id" in paths else None,
        settings=settings,
        secrets=secrets,
        broken_reason="" if mends else None,
    )


def _merged_settings(given: pb.Channel, paths: set[str], before: Channel, kind: ChannelKind) -> Settings | None:
    """The settings that were there, with what the paths name; None when they name nothing."""
    if not paths:
        return None
    merged = pb.Channel(settings=settings_message(before.provider, before.settings))
    FieldMask(paths=sorted(paths - {"api_base"})).MergeMessage(given, merged, replace_message_field=True)
    if "api_base" in paths:
        _set_api_base(merged.settings, given.api_base)
    return _checked(merged.settings, before.provider, kind)


def _checked(settings: pb.ChannelSettings, provider: ProviderKind, kind: ChannelKind) -> Settings:
    if settings.WhichOneof("provider") != provider.name.lower():
        raise invalid_field("channel.settings", f"must be {provider.name.lower()}, as the channel's provider is")
    return settings_of(settings, kind.settings)


def _set_api_base(settings: pb.ChannelSettings, api_base: str) -> None:
    given = getattr(settings, settings.WhichOneof("provider") or "")
    if "api_base" in given.DESCRIPTOR.fields_by_name:
        given.api_base = api_base
    elif api_base:
        raise invalid_field("channel.api_base", "is given, but channels of this provider call no address")


def _given_secrets(given: pb.ChannelSecrets, kind: ChannelKind) -> dict[str, str]:
    patterns = {secret.name: secret.pattern for secret in kind.secrets}
    of_before = {"token": given.token, "webhook_secret": given.webhook_secret}
    secrets = {name: value for name, value in of_before.items() if value and name in patterns} | dict(given.values)
    for name, value in sorted(secrets.items()):
        if name not in patterns:
            raise invalid_field(f"secrets.{name}", "is given, but channels of this provider have no such secret")
        if not re.fullmatch(patterns[name], value):
            raise invalid_field(f"secrets.{name}", f"does not match {patterns[name]}")
    return secrets


def _check_path(path: str) -> None:
    changeable = path.split(".")[0] in CHANGEABLE
    if not changeable or not FieldMask(paths=[path]).IsValidForDescriptor(pb.Channel.DESCRIPTOR):
        description = f"names {path!r}, which cannot be changed so"
        violations = (FieldViolation("update_mask", description),)
        raise ParleyError(
            Kind.INVALID, "INVALID_UPDATE_MASK", f"update_mask: {description}.", violations, {"field": path}
        )
