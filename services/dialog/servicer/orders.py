"""OrderService."""

from typing import Any

import grpc

from parley.dialog.v1 import order_pb2, order_pb2_grpc

from services.dialog.usecases.messages import Messages

Rpc = grpc.aio.ServicerContext[Any, Any]


class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """Answers the RPCs of parley.dialog.v1.OrderService."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    async def ListOrders(self, request: order_pb2.ListOrdersRequest, context: Rpc) -> order_pb2.ListOrdersResponse:
        return await self._messages.orders(request)
