"""The services that a turn calls, as its use cases see them."""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import NoReturn
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from opentelemetry.context import attach

from parley.common.v1.content_pb2 import OutboundContent
from parley.common.v1.identity_pb2 import Sender
from parley.context.v1 import context_pb2
from parley.delivery.v1.channel_pb2 import ListChannelsRequest
from parley.delivery.v1.delivery_pb2 import SendMessageRequest
from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest
from parley.limits.v1 import limits_pb2

from parley_client.context import ContextClient
from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.errors import CallError
from parley_client.limits import LimitsClient
from parley_client.tracing import context_from
from services.dialog.convert.contexts import known_from, save_of
from services.dialog.domain.flows import Known
from services.dialog.domain.turns import (
    Plan,
    Refused,
    Reserved,
    Waiting,
)
from services.dialog.kept_contexts import KeptContexts, Key
from services.dialog.ports import Faulty, Never, NotNow
from services.kernel.clock import Clock
from services.runtime.content import of_text
from services.runtime.lanes import Lease
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

TIMEOUT = 4.0
"""Seconds that a call may take; less than the lease that is made sure of before it."""
RESERVED_FOR = 300
"""Seconds that a reservation holds without a Commit."""
RESOURCE = "model.turn"

_NEVER = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)


_NOT_NOW = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAUTHENTICATED,  # keys are being changed
    }
)


def raise_for_turn(error: CallError, service: str) -> NoReturn:
    """Raise what a failed call means for a turn: it can never work, it may work later, or the service is at fault."""
    if error.code in _NEVER:
        raise Never(error.reason or error.code.name, error.message) from error
    what = f"{service}: {error}"
    raise (NotNow(what) if error.code in _NOT_NOW else Faulty(what)) from error


class ContextPeer:
    """The context service, which is not asked for what is kept and current."""

    def __init__(self, client: ContextClient, kept: KeptContexts) -> None:
        self._client = client
        self._kept = kept
        self._asked: dict[Key, asyncio.Task[context_pb2.GetContextResponse]] = {}

    def ask_ahead(self, head: Waiting, lease: Lease) -> None:
        """Ask for the context of a turn that begins soon, unless it is kept: in the trace of the turn's message."""
        key = Key(lease.tenant_id, lease.lane_id)
        if key in self._asked or self._kept.holds(key, lease.data_version):
            return
        trace = Context()
        trace.run(attach, context_from(head.traceparent, head.tracestate))
        asking = self._ask(key, head.request.sender, lease.data_version)
        self._asked[key] = asyncio.create_task(asking, context=trace)
        self._asked[key].add_done_callback(lambda task: self._answered(key, task))

    def _answered(self, key: Key, task: "asyncio.Task[context_pb2.GetContextResponse]") -> None:
        del self._asked[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.info("a context cannot be asked for ahead of its turn", error=describe(error))

    async def get(self, tenant_id: str, conversation_id: UUID, sender: Sender, min_version: int) -> Known:
        key = Key(tenant_id, conversation_id)
        answer = self._kept.find(key, min_version)
        if answer is None and (asked := self._asked.get(key)) is not None:
            ahead = await asked
            answer = ahead if ahead.version >= min_version else None  # the lane may have been another's meanwhile
        if answer is None:
            answer = await self._ask(key, sender, min_version)
        return known_from(answer)

    async def _ask(self, key: Key, sender: Sender, min_version: int) -> context_pb2.GetContextResponse:
        asked = self._kept.now()
        request = context_pb2.GetContextRequest(
            tenant_id=key.tenant_id, conversation_id=str(key.id), sender=sender, min_version=min_version
        )
        try:
            answer = await self._client.get_context(request, timeout=TIMEOUT)
        except CallError as error:
            raise_for_turn(error, "context")
        self._kept.keep(key, answer, asked)
        return answer

    async def save(self, tenant_id: str, conversation_id: UUID, plan: Plan) -> int:
        key, request = Key(tenant_id, conversation_id), save_of(tenant_id, conversation_id, plan)
        asked, base = self._kept.now(), self._kept.take(key)
        try:
            saved = await self._client.save_context(request, timeout=TIMEOUT)
        except CallError as error:
            raise_for_turn(error, "context")
        self._kept.keep_saved(key, base, request, saved, asked)
        return saved.version


class QuotaPeer:
    """The limits service, for the quota of model turns."""

    def __init__(self, client: LimitsClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def reserve(
        self, request: SubmitMessageRequest, contact_id: str, request_id: str, time_zone: str
    ) -> Reserved | Refused:
        call = limits_pb2.ReserveRequest(
            tenant_id=request.tenant_id,
            request_id=request_id,
            resource=RESOURCE,
            subject=limits_pb2.Subject(bot_id=request.bot_id, channel_id=request.channel_id, contact_id=contact_id),
            ttl=Duration(seconds=RESERVED_FOR),
            time_zone=time_zone,
        )
        try:
            answer = await self._client.reserve(call, timeout=TIMEOUT)
        except CallError as error:
            raise_for_turn(error, "limits")
        if answer.granted:
            today = (status.remaining for status in answer.statuses if status.daily and not status.shadow)
            return Reserved(answer.reservation_id, min(today, default=None))
        left = {status.rule_id: status.remaining for status in answer.statuses}
        retry_at = self._clock.now() + answer.retry_after.ToTimedelta()
        return Refused(answer.refused_by, left.get(answer.refused_by, 0), retry_at)

    async def commit(self, tenant_id: str, reservation_id: str) -> None:
        request = limits_pb2.CommitRequest(tenant_id=tenant_id, reservation_id=reservation_id)
        try:
            await self._client.commit(request, timeout=TIMEOUT)
        except CallError as error:
            raise_for_turn(error, "limits")

    async def release(self, tenant_id: str, reservation_id: str) -> None:
        request = limits_pb2.ReleaseRequest(tenant_id=tenant_id, reservation_id=reservation_id)
        try:
            await self._client.release(request, timeout=TIMEOUT)
        except CallError as error:
            raise_for_turn(error, "limits")


class DeliveryPeer:
    """The delivery service."""

    def __init__(self, client: DeliveryClient) -> None:
        self._client = client

    async def send(
        self,
        request: SubmitMessageRequest,
        conversation_id: UUID,
        message_id: UUID,
        turn_id: UUID,
        index: int,
        reply: OutboundContent,
    ) -> UUID:
        call = _delivery(request, conversation_id, f"{turn_id}/{index}", reply)
        call.message_id = str(message_id)
        call.reply_index = index
        return await self._send(call)

    async def say(self, request: SubmitMessageRequest, conversation_id: UUID, key: str, text: str) -> UUID:
        return await self._send(_delivery(request, conversation_id, key, of_text(text)))

    async def _send(self, call: SendMessageRequest) -> UUID:
        try:
            return UUID((await self._client.send_message(call, timeout=TIMEOUT)).delivery_id)
        except CallError as error:
            raise_for_turn(error, "delivery")


def _delivery(
    request: SubmitMessageRequest, conversation_id: UUID, key: str, content: OutboundContent
) -> SendMessageRequest:
    """Something to send to the chat of a message."""
    return SendMessageRequest(
        tenant_id=request.tenant_id,
        channel_id=request.channel_id,
        conversation_id=str(conversation_id),
        chat_id=request.chat_id,
        content=content,
        request_id=key,
    )


class ChannelPeer:
    """The delivery service's channels."""

    def __init__(self, client: ChannelClient) -> None:
        self._client = client

    async def of_bot(self, tenant_id: str, bot_id: str) -> Sequence[str]:
        request = ListChannelsRequest(tenant_id=tenant_id, bot_id=bot_id, page_size=5)
        response = await self._client.list_channels(request, timeout=TIMEOUT)
        return [channel.channel_id for channel in response.channels]
