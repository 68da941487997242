"""How the mesh is, as seen from the edge."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import msgspec
from grpc_health.v1 import health_pb2
from starlette.requests import Request
from starlette.responses import Response

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_client.channel import Connection
from parley_client.delivery import DeliveryClient
from parley_client.dialog import DialogClient
from parley_client.errors import CallError

PATIENCE = 1.0
"""Seconds that one service has to answer."""


@dataclass
class Health:
    """`/health`, `/health/live` and `/health/ready`."""

    connections: Mapping[str, Connection]
    dialog: DialogClient
    delivery: DeliveryClient
    keep: float = 0.5
    """Seconds for which an answer is given again, so that many probes cost no more than one."""
    _ready: tuple[float, bool] = field(default=(0.0, False), init=False)

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _json({"status": "ok"}, 200)

    async def ready(self, request: Request) -> Response:
        """Messages can be taken in: dialog serves, which it does only while Postgres answers."""
        now = asyncio.get_running_loop().time()
        if self._ready[0] < now:
            state = await self._serving("dialog")
            self._ready = (now + self.keep, state == "ok")
        ready = self._ready[1]
        return _json({"status": "ok" if ready else "down"}, 200 if ready else 503)

    async def overview(self, request: Request) -> Response:
        """Every service, the stores and the queues. 503 when messages cannot be taken in."""
        names = list(self.connections)
        states, stores, queue = await asyncio.gather(
            asyncio.gather(*(self._serving(name) for name in names)),
            asyncio.gather(self._serving("dialog", "postgres"), self._serving("context", "redis")),
            self._queue(),
        )
        services = dict(zip(names, states, strict=True))
        down = services.get("dialog") != "ok"
        degraded = any(state != "ok" for state in (*states, *stores))
        body = {
            "status": "down" if down else "degraded" if degraded else "ok",
            "postgres": stores[0],
            "redis": stores[1],
            "queue": queue,
            "services": services,
        }
        return _json(body, 503 if down else 200)

    async def _serving(self, name: str, check: str = "") -> str:
        ask = self.connections[name].channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer: health_pb2.HealthCheckResponse = await ask(
                health_pb2.HealthCheckRequest(service=check), timeout=PATIENCE
            )
        except grpc.aio.AioRpcError as error:
            return "unknown" if error.code() is grpc.StatusCode.NOT_FOUND else "down"
        return "ok" if answer.status == health_pb2.HealthCheckResponse.SERVING else "down"

    async def _queue(self) -> dict[str, int | None]:
        inbox, outbox = await asyncio.gather(
            self.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(), timeout=PATIENCE),
            self.delivery.get_queue_stats(delivery_pb2.GetQueueStatsRequest(), timeout=PATIENCE),
            return_exceptions=True,
        )
        for answer in (inbox, outbox):
            if isinstance(answer, BaseException) and not isinstance(answer, CallError):
                raise answer
        return {
            "inbox_waiting": None if isinstance(inbox, BaseException) else inbox.waiting,
            "inbox_failed": None if isinstance(inbox, BaseException) else inbox.failed,
            "inbox_dead": None if isinstance(inbox, BaseException) else inbox.dead,
            "outbox_waiting": None if isinstance(outbox, BaseException) else outbox.waiting,
            "outbox_retrying": None if isinstance(outbox, BaseException) else outbox.retrying,
            "outbox_dead": None if isinstance(outbox, BaseException) else outbox.dead,
        }


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, "application/json")
