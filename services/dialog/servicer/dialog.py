"""DialogService."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
from opentelemetry import context as otel

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from services.dialog.usecases.chat import Chat
from services.dialog.usecases.messages import Messages
from services.dialog.usecases.submit import Submit
from services.runtime.batches import run_items

Rpc = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")
_METHOD = "/parley.dialog.v1.DialogService/"


class DialogServicer(dialog_pb2_grpc.DialogServiceServicer):
    """Answers the RPCs of parley.dialog.v1.DialogService."""

    def __init__(self, submit: Submit, chat: Chat, messages: Messages) -> None:
        self._submit = submit
        self._chat = chat
        self._messages = messages

    async def SubmitMessage(
        self, request: dialog_pb2.SubmitMessageRequest, context: Rpc
    ) -> dialog_pb2.SubmitMessageResponse:
        return only(await self._submit.all([request], [otel.get_current()]))

    async def BatchSubmitMessage(
        self, request: dialog_pb2.BatchSubmitMessageRequest, context: Rpc
    ) -> dialog_pb2.BatchSubmitMessageResponse:
        return await run_items(
            request,
            context,
            method=f"{_METHOD}SubmitMessage",
            respond=dialog_pb2.BatchSubmitMessageResponse,
            handle=self._submit.all,
        )

    async def Chat(self, request: dialog_pb2.ChatRequest, context: Rpc) -> AsyncIterator[dialog_pb2.ChatResponse]:
        async with aclosing(self._chat(request, context.time_remaining())) as events:
            async for event in events:
                yield event

    async def GetMessage(self, request: dialog_pb2.GetMessageRequest, context: Rpc) -> dialog_pb2.GetMessageResponse:
        message = await self._messages.get(request.tenant_id, request.message_id)
        return dialog_pb2.GetMessageResponse(message=message)

    async def ListMessages(
        self, request: dialog_pb2.ListMessagesRequest, context: Rpc
    ) -> dialog_pb2.ListMessagesResponse:
        return await self._messages.list(request)

    async def RetryMessage(
        self, request: dialog_pb2.RetryMessageRequest, context: Rpc
    ) -> dialog_pb2.RetryMessageResponse:
        return await self._messages.retry(request)

    async def ListConversations(
        self, request: dialog_pb2.ListConversationsRequest, context: Rpc
    ) -> dialog_pb2.ListConversationsResponse:
        return await self._messages.conversations(request)

    async def GetQueueStats(
        self, request: dialog_pb2.GetQueueStatsRequest, context: Rpc
    ) -> dialog_pb2.GetQueueStatsResponse:
        return await self._messages.queue_stats(request.tenant_id)

    async def RecordOutcome(
        self, request: dialog_pb2.RecordOutcomeRequest, context: Rpc
    ) -> dialog_pb2.RecordOutcomeResponse:
        return only(await self._messages.record([request]))

    async def BatchRecordOutcome(
        self, request: dialog_pb2.BatchRecordOutcomeRequest, context: Rpc
    ) -> dialog_pb2.BatchRecordOutcomeResponse:
        return await run_items(
            request,
            context,
            method=f"{_METHOD}RecordOutcome",
            respond=dialog_pb2.BatchRecordOutcomeResponse,
            handle=self._messages.record,
        )


def only(results: Sequence[Response | Exception]) -> Response:
    """The result of the one item; raises it when it is an exception."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
