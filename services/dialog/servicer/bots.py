"""BotService."""

from typing import Any

import grpc

from parley.dialog.v1 import bot_pb2, bot_pb2_grpc

from services.dialog.usecases.bots import Bots

Rpc = grpc.aio.ServicerContext[Any, Any]


class BotServicer(bot_pb2_grpc.BotServiceServicer):
    """Answers the RPCs of parley.dialog.v1.BotService."""

    def __init__(self, bots: Bots) -> None:
        self._bots = bots

    async def CreateBot(self, request: bot_pb2.CreateBotRequest, context: Rpc) -> bot_pb2.CreateBotResponse:
        return await self._bots.create(request)

    async def GetBot(self, request: bot_pb2.GetBotRequest, context: Rpc) -> bot_pb2.GetBotResponse:
        return await self._bots.get(request)

    async def UpdateBot(self, request: bot_pb2.UpdateBotRequest, context: Rpc) -> bot_pb2.UpdateBotResponse:
        return await self._bots.update(request)

    async def DeleteBot(self, request: bot_pb2.DeleteBotRequest, context: Rpc) -> bot_pb2.DeleteBotResponse:
        return await self._bots.delete(request)

    async def ListBots(self, request: bot_pb2.ListBotsRequest, context: Rpc) -> bot_pb2.ListBotsResponse:
        return await self._bots.list(request)

    async def EnableBot(self, request: bot_pb2.EnableBotRequest, context: Rpc) -> bot_pb2.EnableBotResponse:
        return await self._bots.enable(request)

    async def DisableBot(self, request: bot_pb2.DisableBotRequest, context: Rpc) -> bot_pb2.DisableBotResponse:
        return await self._bots.disable(request)
