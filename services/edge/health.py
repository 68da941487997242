"""`/health`: everybody sees a word for each part of the mesh, operators see the counts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

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
from services.edge.failure_limit import FailureLimit
from services.edge.problems import Problem
from services.edge.server.admission import Admission
from services.kernel.errors import ParleyError
from services.runtime.auth import ALL
from services.runtime.verifier import Verifier

T = TypeVar("T")
PATIENCE = 1.0
"""Seconds within which a service has to answer."""
KEPT = 1.0
"""Seconds for which an answer is reused."""
INBOX = ("inbox_waiting", "inbox_failed", "inbox_dead")
OUTBOX = ("outbox_waiting", "outbox_retrying", "outbox_dead")


class Shared(Generic[T]):
    """Asks once for all who want to know at the same time, and reuses the answer for a second."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """Returns the answer. Raises what asking raises."""
        loop = asyncio.get_running_loop()
        if self._task is None or (self._task.done() and self._until <= loop.time()):
            self._task = loop.create_task(self._answer())
        return await asyncio.shield(self._task)

    async def _answer(self) -> T:
        self._until = 0.0
        answer = await self._ask()
        self._until = asyncio.get_running_loop().time() + KEPT
        return answer


@dataclass(frozen=True)
class Seen:
    """What was found. A part is `ok`, `degraded` (it answers that it cannot serve fully), `down`, or `unknown` (the
    service that would tell did not answer)."""

    services: Mapping[str, str]
    postgres: str
    redis: str
    queue: Mapping[str, int | None]

    @property
    def queue_word(self) -> str:
        known = [value is not None for value in self.queue.values()]
        return "ok" if all(known) else "degraded" if any(known) else "unknown"

    @property
    def status(self) -> str:
        if self.services.get("dialog") != "ok":
            return "down"
        words = {*self.services.values(), self.postgres, self.redis, self.queue_word}
        return "ok" if words == {"ok"} else "degraded"


class Health:
    """`/health`, `/health/live` and `/health/ready`."""

    def __init__(
        self,
        connections: Mapping[str, Connection],
        dialog: DialogClient,
        delivery: DeliveryClient,
        verifier: Verifier,
        failures: FailureLimit,
        admission: Admission,
    ) -> None:
        """`connections` are those of the services to ask; `admission` has the server's own counts."""
        self._connections = connections
        self._dialog = dialog
        self._delivery = delivery
        self._verifier = verifier
        self._failures = failures
        self._admission = admission
        self._ready = Shared(lambda: self._word("dialog"))
        self._seen = Shared(self._look)

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _json({"status": "ok"}, 200)

    async def ready(self, request: Request) -> Response:
        """Whether messages can be taken in. Dialog serves only while Postgres answers, so that is asked."""
        ready = await self._ready.get() == "ok"
        return _json({"status": "ok" if ready else "down"}, 200 if ready else 503)

    async def overview(self, request: Request) -> Response:
        """Shows every service, the stores and the queues; with status 503 when messages cannot be taken in."""
        operator = self._is_operator(request)
        seen = await self._seen.get()
        body: dict[str, object] = {
            "status": seen.status,
            "postgres": seen.postgres,
            "redis": seen.redis,
            "queue": seen.queue if operator else seen.queue_word,
            "services": seen.services,
        }
        if operator:
            body["edge"] = self._own_counts()
        return _json(body, 503 if seen.status == "down" else 200)

    def _is_operator(self, request: Request) -> bool:
        """Whether the caller has a token for every tenant. Raises Problem for one that is wrong or for some tenants."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return False
        try:
            caller = self._verifier.verify(token.strip())
        except ParleyError as error:
            address = request.client.host if request.client else ""
            raise self._failures.failed(address, "token", Problem(401, error.reason, error.message)) from None
        if caller.tenants is not ALL:
            raise Problem(403, "TENANT_NOT_ALLOWED", "The counts are of all tenants, and this token is for some.")
        return True

    def _own_counts(self) -> dict[str, object]:
        admission = self._admission
        return {
            "connections": len(admission.connections),
            "requests": len(admission.requests),
            "refused": dict(admission.refused),
            "failures": dict(self._failures.counts),
        }

    async def _look(self) -> Seen:
        names = list(self._connections)
        words, postgres, redis, queue = await asyncio.gather(
            asyncio.gather(*(self._word(name) for name in names)),
            self._word_of_store("dialog", "postgres"),
            self._word_of_store("context", "redis"),
            self._queue(),
        )
        return Seen(dict(zip(names, words, strict=True)), postgres, redis, queue)

    async def _word(self, name: str) -> str:
        serves = await self._serves(name)
        return "down" if serves is None else "ok" if serves else "degraded"

    async def _word_of_store(self, name: str, store: str) -> str:
        """What a service says of its store. When it does not answer, nobody knows how the store is."""
        serves = await self._serves(name, store)
        return "unknown" if serves is None else "ok" if serves else "down"

    async def _serves(self, name: str, check: str = "") -> bool | None:
        """Whether a service says that it serves; None when it does not answer."""
        ask = self._connections[name].channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer: health_pb2.HealthCheckResponse = await ask(
                health_pb2.HealthCheckRequest(service=check), timeout=PATIENCE
            )
        except grpc.aio.AioRpcError:
            return None
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _queue(self) -> dict[str, int | None]:
        inbox, outbox = await asyncio.gather(
            _counts(self._dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(), timeout=PATIENCE), INBOX),
            _counts(self._delivery.get_queue_stats(delivery_pb2.GetQueueStatsRequest(), timeout=PATIENCE), OUTBOX),
        )
        return inbox | outbox


async def _counts(asked: Awaitable[object], names: Iterable[str]) -> dict[str, int | None]:
    """Counts of a queue; None for all of them when its service does not answer."""
    try:
        stats = await asked
    except CallError:
        return dict.fromkeys(names)
    return {name: getattr(stats, name.partition("_")[2]) for name in names}


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, "application/json")
