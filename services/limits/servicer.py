"""LimitsService: request to use case to response."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from parley.limits.v1 import limits_pb2 as pb
from parley.limits.v1 import limits_pb2_grpc

from services.kernel.errors import ParleyError
from services.limits.usecases.administration import Administration
from services.limits.usecases.limits import Limits
from services.runtime.auth import caller
from services.runtime.batches import run_items

Rpc = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")

SERVICE = "parley.limits.v1.LimitsService"
KNOW_ZONES = frozenset({"dialog", "operator"})
"""Who is believed about a tenant's time zone: dialog keeps tenants. Another caller could make a day begin anew."""


class LimitsServicer(limits_pb2_grpc.LimitsServiceServicer):
    """Answers the RPCs of parley.limits.v1.LimitsService."""

    def __init__(self, limits: Limits, administration: Administration) -> None:
        self._limits = limits
        self._administration = administration
        self.decided: Counter[str] = Counter()
        """Answers to Reserve since the start, by outcome."""

    async def Check(self, request: pb.CheckRequest, context: Rpc) -> pb.CheckResponse:
        return await self._limits.check(request)

    async def Reserve(self, request: pb.ReserveRequest, context: Rpc) -> pb.ReserveResponse:
        return _only(await self._reserve([request]))

    async def BatchReserve(self, request: pb.BatchReserveRequest, context: Rpc) -> pb.BatchReserveResponse:
        method, respond = f"/{SERVICE}/Reserve", pb.BatchReserveResponse
        return await run_items(request, context, method=method, respond=respond, handle=self._reserve)

    async def _reserve(self, requests: Sequence[pb.ReserveRequest]) -> Sequence[pb.ReserveResponse | ParleyError]:
        if caller().name in KNOW_ZONES:
            self._limits.learn_zones(requests)
        answers = await self._limits.reserve(requests)
        for answer in answers:
            if isinstance(answer, ParleyError):
                self.decided["failed"] += 1
            else:
                self.decided["granted" if answer.granted else "refused"] += 1
        return answers

    async def Commit(self, request: pb.CommitRequest, context: Rpc) -> pb.CommitResponse:
        return _only(await self._limits.commit([request]))

    async def BatchCommit(self, request: pb.BatchCommitRequest, context: Rpc) -> pb.BatchCommitResponse:
        method, respond = f"/{SERVICE}/Commit", pb.BatchCommitResponse
        return await run_items(request, context, method=method, respond=respond, handle=self._limits.commit)

    async def Release(self, request: pb.ReleaseRequest, context: Rpc) -> pb.ReleaseResponse:
        await self._limits.release(request)
        return pb.ReleaseResponse()

    async def GetUsage(self, request: pb.GetUsageRequest, context: Rpc) -> pb.GetUsageResponse:
        return await self._limits.usage(request)

    async def ResetUsage(self, request: pb.ResetUsageRequest, context: Rpc) -> pb.ResetUsageResponse:
        return await self._limits.reset(request)

    async def CreateRule(self, request: pb.CreateRuleRequest, context: Rpc) -> pb.CreateRuleResponse:
        return await self._administration.create(request)

    async def UpdateRule(self, request: pb.UpdateRuleRequest, context: Rpc) -> pb.UpdateRuleResponse:
        return await self._administration.update(request)

    async def DeleteRule(self, request: pb.DeleteRuleRequest, context: Rpc) -> pb.DeleteRuleResponse:
        return await self._administration.delete(request)

    async def ListRules(self, request: pb.ListRulesRequest, context: Rpc) -> pb.ListRulesResponse:
        return await self._administration.list(request)

    async def SetOverride(self, request: pb.SetOverrideRequest, context: Rpc) -> pb.SetOverrideResponse:
        return await self._administration.set_override(request)

    async def DeleteOverride(self, request: pb.DeleteOverrideRequest, context: Rpc) -> pb.DeleteOverrideResponse:
        return await self._administration.delete_override(request)


def _only(results: Sequence[Response | ParleyError]) -> Response:
    (result,) = results
    if isinstance(result, ParleyError):
        raise result
    return result
