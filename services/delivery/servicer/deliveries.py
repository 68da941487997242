"""`parley.delivery.v1.DeliveryService`."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from opentelemetry import context as otel
from opentelemetry.context import Context

from parley.delivery.v1 import delivery_pb2 as pb
from parley.delivery.v1 import delivery_pb2_grpc

from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.outbox import Priority
from services.delivery.domain.parts import PartState
from services.delivery.domain.statuses import Report
from services.delivery.providers.base import Signal
from services.delivery.servicer.protos import delivery_message
from services.delivery.usecases.changes import RetryStore, Revivals
from services.delivery.usecases.ports import Channels, Filter, ReadStore
from services.delivery.usecases.retry import revive
from services.delivery.usecases.send import SendMessages, ToSend
from services.delivery.usecases.signals import Signals
from services.delivery.usecases.statuses import Statuses
from services.delivery.usecases.wait_reasons import WaitReasons
from services.kernel.errors import ParleyError, not_found
from services.runtime import pages
from services.runtime.batches import run_items

SERVICE = "/parley.delivery.v1.DeliveryService"
PAGE = 50


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Requests to use cases, results to responses."""

    def __init__(
        self,
        send: SendMessages,
        channels: Channels,
        reading: ReadStore,
        retrying: RetryStore,
        statuses: Statuses,
        waits: WaitReasons,
        signals: Signals,
    ) -> None:
        self._send = send
        self._signals = signals
        self._channels = channels
        self._reading = reading
        self._retrying = retrying
        self._statuses = statuses
        self._waits = waits

    async def SendMessage(self, request: pb.SendMessageRequest, context: object) -> pb.SendMessageResponse:
        (result,) = await self._send_all([request], [otel.get_current()])
        if isinstance(result, ParleyError):
            raise result
        return result

    async def BatchSendMessage(
        self, request: pb.BatchSendMessageRequest, context: object
    ) -> pb.BatchSendMessageResponse:
        return await run_items(
            request,
            context,
            method=f"{SERVICE}/SendMessage",
            respond=pb.BatchSendMessageResponse,
            handle=self._send_all,
        )

    async def _send_all(
        self, requests: Sequence[pb.SendMessageRequest], parents: Sequence[Context]
    ) -> Sequence[pb.SendMessageResponse | ParleyError]:
        return [
            result
            if isinstance(result, ParleyError)
            else pb.SendMessageResponse(delivery_id=str(result.delivery_id), duplicate=result.duplicate)
            for result in await self._send([_to_send(request) for request in requests], parents)
        ]

    async def SendSignal(self, request: pb.SendSignalRequest, context: object) -> pb.SendSignalResponse:
        channel = self._channels.by_id(request.channel_id)
        mine = channel if channel is not None and channel.tenant_id == request.tenant_id else None
        taken = self._signals.offer(mine, Signal(request.chat_id, request.preview.text))
        return pb.SendSignalResponse(taken=taken)

    async def GetDelivery(self, request: pb.GetDeliveryRequest, context: object) -> pb.GetDeliveryResponse:
        return pb.GetDeliveryResponse(delivery=await self._get(request.tenant_id, request.delivery_id))

    async def _get(self, tenant_id: str, delivery_id: str) -> pb.Delivery:
        delivery = await self._reading.get(tenant_id, UUID(delivery_id))
        if delivery is None:
            raise not_found("DELIVERY_NOT_FOUND", "delivery", "delivery_id", delivery_id)
        return delivery_message(delivery, self._waits.of(delivery))

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: object) -> pb.ListDeliveriesResponse:
        filters = (request.tenant_id, request.message_id, request.channel_id, request.part_state)
        position = pages.decode(request.page_token, "ListDeliveries", filters)
        size = request.page_size or PAGE
        before = UUID(str(position[0])) if position else None
        found, further = await self._reading.page(_filter(request), before=before, limit=size)
        token = pages.encode("ListDeliveries", filters, (str(further),)) if further is not None else ""
        shown = [delivery_message(delivery, self._waits.of(delivery)) for delivery in found]
        return pb.ListDeliveriesResponse(deliveries=shown, next_page_token=token)

    async def RetryDelivery(self, request: pb.RetryDeliveryRequest, context: object) -> pb.RetryDeliveryResponse:
        async def work(revivals: Revivals) -> pb.RetryDeliveryResponse:
            delivery = await revive(revivals, request)
            return pb.RetryDeliveryResponse(delivery=_without_text(delivery_message(delivery)))

        response = await self._retrying.once(request, pb.RetryDeliveryResponse, "RetryDelivery", work)
        # The kept answer has no text in it: it comes from where it is sealed.
        stored = await self._get(request.tenant_id, request.delivery_id)
        response.delivery.content.CopyFrom(stored.content)
        for part, now in zip(response.delivery.parts, stored.parts, strict=True):
            part.text = now.text
            if now.HasField("content"):
                part.content.CopyFrom(now.content)
        return response

    async def ReportStatus(self, request: pb.ReportStatusRequest, context: object) -> pb.ReportStatusResponse:
        channel = self._channels.by_id(request.channel_id)
        if channel is None:
            await self._channels.refresh()
            channel = self._channels.by_id(request.channel_id)
        if channel is None or channel.tenant_id != request.tenant_id:
            raise not_found("CHANNEL_NOT_FOUND", "channel", "channel_id", request.channel_id)
        report = Report(
            ProviderStatus(request.status),
            request.at.ToMilliseconds(),
            request.provider_message_id,
            request.external_id,
            request.error,
            request.word,
        )
        duplicate = await self._statuses.report(channel, report, request.dedupe_key)
        return pb.ReportStatusResponse(duplicate=duplicate)

    async def GetQueueStats(self, request: pb.GetQueueStatsRequest, context: object) -> pb.GetQueueStatsResponse:
        stats = await self._reading.stats(request.tenant_id)
        response = pb.GetQueueStatsResponse(
            waiting=stats.waiting,
            leased_lanes=stats.leased_lanes,
            retrying=stats.retrying,
            unknown=stats.unknown,
            dead=stats.dead,
            capped=stats.capped,
        )
        if stats.oldest_waiting is not None:
            age = Duration()
            age.FromTimedelta(timedelta(seconds=max(0.0, stats.oldest_waiting)))
            response.oldest_waiting.CopyFrom(age)
        return response


def _without_text(delivery: pb.Delivery) -> pb.Delivery:
    delivery.ClearField("content")
    for part in delivery.parts:
        part.ClearField("text")
        part.ClearField("content")
    return delivery


def _to_send(request: pb.SendMessageRequest) -> ToSend:
    return ToSend(
        request.tenant_id,
        request.channel_id,
        request.conversation_id,
        request.chat_id,
        request.content,
        request.request_id,
        request.message_id,
        request.reply_index,
        Priority(request.priority or Priority.REPLY),
    )


def _filter(request: pb.ListDeliveriesRequest) -> Filter:
    return Filter(
        request.tenant_id,
        UUID(request.message_id) if request.message_id else None,
        request.channel_id,
        PartState(request.part_state) if request.part_state else None,
    )
