"""ContextService: request to use case to response."""

from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from parley.context.v1 import context_pb2, context_pb2_grpc

from services.context.ports import Hearers
from services.context.usecases.contexts import Contexts
from services.kernel.errors import ParleyError
from services.runtime.auth import caller
from services.runtime.batches import run_items

Rpc = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class ContextServicer(context_pb2_grpc.ContextServiceServicer):
    """Answers the RPCs of parley.context.v1.ContextService."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    async def GetContext(self, request: context_pb2.GetContextRequest, context: Rpc) -> context_pb2.GetContextResponse:
        return _only(await self._contexts.get([request]))

    async def BatchGetContext(
        self, request: context_pb2.BatchGetContextRequest, context: Rpc
    ) -> context_pb2.BatchGetContextResponse:
        return await run_items(
            request,
            context,
            method="/parley.context.v1.ContextService/GetContext",
            respond=context_pb2.BatchGetContextResponse,
            handle=self._contexts.get,
        )

    async def SaveContext(
        self, request: context_pb2.SaveContextRequest, context: Rpc
    ) -> context_pb2.SaveContextResponse:
        return _only(await self._save([request]))

    async def BatchSaveContext(
        self, request: context_pb2.BatchSaveContextRequest, context: Rpc
    ) -> context_pb2.BatchSaveContextResponse:
        return await run_items(
            request,
            context,
            method="/parley.context.v1.ContextService/SaveContext",
            respond=context_pb2.BatchSaveContextResponse,
            handle=self._save,
        )

    async def _save(
        self, requests: Sequence[context_pb2.SaveContextRequest]
    ) -> Sequence[context_pb2.SaveContextResponse | ParleyError]:
        # Dialog saves for its lanes only, whose rows name the version.
        return await self._contexts.save(requests, Hearers.PROCESSES if caller().name == "dialog" else Hearers.ALL)

    async def InvalidateContext(
        self, request: context_pb2.InvalidateContextRequest, context: Rpc
    ) -> context_pb2.InvalidateContextResponse:
        await self._contexts.invalidate(request)
        return context_pb2.InvalidateContextResponse()

    async def GetStats(self, request: context_pb2.GetStatsRequest, context: Rpc) -> context_pb2.GetStatsResponse:
        levels = self._contexts.levels
        return levels.stats.report(len(levels.memory) + len(levels.contact_memory))


def _only(results: Sequence[Response | ParleyError]) -> Response:
    (result,) = results
    if isinstance(result, ParleyError):
        raise result
    return result
