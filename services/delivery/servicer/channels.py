"""`parley.delivery.v1.ChannelService`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from parley.delivery.v1 import channel_pb2 as pb
from parley.delivery.v1 import channel_pb2_grpc

from services.delivery.domain.channels import (
    Channel,
    ChannelKind,
    ChannelValues,
    ProviderKind,
    api_base_of,
    carried_away,
)
from services.delivery.servicer.channel_requests import changed_values, new_values
from services.delivery.servicer.protos import channel_message
from services.delivery.usecases.mirror import ChannelMirror, Event
from services.delivery.usecases.ports import ChannelStore, Edits
from services.kernel.errors import invalid_field, not_found
from services.runtime import pages
from services.runtime.auth import caller, require_tenant
from services.runtime.egress import Egress, Refused

R = TypeVar("R", bound=Message)
PAGE = 50


class ChannelServicer(channel_pb2_grpc.ChannelServiceServicer):
    """Requests to use cases, results to responses."""

    def __init__(
        self, store: ChannelStore, mirror: ChannelMirror, kinds: Mapping[ProviderKind, ChannelKind], egress: Egress
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._kinds = kinds
        self._egress = egress

    async def CreateChannel(self, request: pb.CreateChannelRequest, context: object) -> pb.CreateChannelResponse:
        _same_tenant(request.tenant_id, request.channel)
        channel_id, provider = request.channel.channel_id, ProviderKind(request.channel.provider)
        values = new_values(request, self._kinds[provider])
        self._check_address(values, request.channel)

        async def work(edits: Edits) -> pb.CreateChannelResponse:
            created = await edits.create(request.tenant_id, channel_id, provider, values)
            return pb.CreateChannelResponse(channel=channel_message(created))

        response = await self._once(request, pb.CreateChannelResponse, "CreateChannel", work)
        # The kept answer has no secret in it: they come from where they are sealed.
        secrets = self._of_edge(await self._get(channel_id, request.tenant_id))
        response.secrets.update(secrets)
        response.webhook_secret = secrets.get("webhook_secret", "")
        return response

    async def GetChannel(self, request: pb.GetChannelRequest, context: object) -> pb.GetChannelResponse:
        channel = await self._get(request.channel_id, request.tenant_id)
        secrets = self._of_edge(channel) if caller().name == "edge" else {}
        return pb.GetChannelResponse(
            channel=channel_message(channel), secrets=secrets, webhook_secret=secrets.get("webhook_secret", "")
        )

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, context: object) -> pb.UpdateChannelResponse:
        _same_tenant(request.tenant_id, request.channel)

        async def work(edits: Edits) -> pb.UpdateChannelResponse:
            before = await edits.get(request.tenant_id, request.channel.channel_id)
            kind = self._kinds[before.provider]
            values = changed_values(request, before, kind)
            self._check_address(values, request.channel)
            if name := carried_away(before, kind, values):
                why = "must be given again when api_base changes: a stored one is for the address it was given for"
                raise invalid_field(f"secrets.{name}", why)
            channel = await edits.update(request.tenant_id, request.channel.channel_id, values)
            return pb.UpdateChannelResponse(channel=channel_message(channel))

        return await self._once(request, pb.UpdateChannelResponse, "UpdateChannel", work)

    async def DeleteChannel(self, request: pb.DeleteChannelRequest, context: object) -> pb.DeleteChannelResponse:
        async def work(edits: Edits) -> pb.DeleteChannelResponse:
            await edits.delete(request.tenant_id, request.channel_id)
            return pb.DeleteChannelResponse()

        return await self._once(request, pb.DeleteChannelResponse, "DeleteChannel", work)

    async def ListChannels(self, request: pb.ListChannelsRequest, context: object) -> pb.ListChannelsResponse:
        filters = (request.tenant_id, request.bot_id)
        position = pages.decode(request.page_token, "ListChannels", filters)
        size = request.page_size or PAGE
        after = str(position[0]) if position else ""
        found = await self._store.page(*filters, after=after, limit=size + 1)
        token = ""
        if len(found) > size:
            token = pages.encode("ListChannels", filters, (found[size - 1].channel_id,))
        return pb.ListChannelsResponse(
            channels=[channel_message(channel) for channel in found[:size]], next_page_token=token
        )

    async def EnableChannel(self, request: pb.EnableChannelRequest, context: object) -> pb.EnableChannelResponse:
        async def work(edits: Edits) -> pb.EnableChannelResponse:
            values = ChannelValues(enabled=True, broken_reason="")
            channel = await edits.update(request.tenant_id, request.channel_id, values)
            return pb.EnableChannelResponse(channel=channel_message(channel))

        return await self._once(request, pb.EnableChannelResponse, "EnableChannel", work)

    async def DisableChannel(self, request: pb.DisableChannelRequest, context: object) -> pb.DisableChannelResponse:
        async def work(edits: Edits) -> pb.DisableChannelResponse:
            channel = await edits.update(request.tenant_id, request.channel_id, ChannelValues(enabled=False))
            return pb.DisableChannelResponse(channel=channel_message(channel))

        return await self._once(request, pb.DisableChannelResponse, "DisableChannel", work)

    async def WatchChannels(
        self, request: pb.WatchChannelsRequest, context: object
    ) -> AsyncIterator[pb.WatchChannelsResponse]:
        require_tenant("")
        async for events in self._mirror.watch():
            if events is None:
                yield pb.WatchChannelsResponse(ready=pb.WatchChannelsResponse.Ready())
                continue
            for event in events:
                yield self._event_message(event)

    async def _once(self, request: Message, response: type[R], method: str, work: Callable[[Edits], Awaitable[R]]) -> R:
        """Changes channels, and answers when this process goes by it: what is sent next goes to the new address. Others
        hear of it."""
        result = await self._store.once(request, response, method, work)
        await self._mirror.refresh()
        return result

    def _check_address(self, values: ChannelValues, given: pb.Channel) -> None:
        try:
            if values.settings is not None and (api_base := api_base_of(values.settings)):
                self._egress.check(api_base)
        except Refused as error:
            in_settings = given.HasField("settings") and given.api_base != api_base
            raise invalid_field("channel.settings" if in_settings else "channel.api_base", str(error)) from None

    def _of_edge(self, channel: Channel) -> dict[str, str]:
        return self._kinds[channel.provider].of_edge(channel.secrets)

    def _event_message(self, event: Event) -> pb.WatchChannelsResponse:
        if isinstance(event, Channel):
            secrets = self._of_edge(event)
            changed = pb.WatchChannelsResponse.Changed(
                channel=channel_message(event), secrets=secrets, webhook_secret=secrets.get("webhook_secret", "")
            )
            return pb.WatchChannelsResponse(changed=changed)
        return pb.WatchChannelsResponse(deleted=pb.WatchChannelsResponse.Deleted(channel_id=event.channel_id))

    async def _get(self, channel_id: str, tenant_id: str) -> Channel:
        channel = await self._store.get(channel_id, tenant_id)
        if channel is None:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", channel_id)
        return channel


def _same_tenant(tenant_id: str, channel: pb.Channel) -> None:
    if channel.tenant_id != tenant_id:
        raise invalid_field("channel.tenant_id", "must be the request's tenant_id")
