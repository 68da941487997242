"""What an operator's retry changes."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.delivery.domain.deliveries import Parts
from services.delivery.domain.outbox import Delivery
from services.delivery.postgres.delivery_changes import store_parts
from services.delivery.postgres.outbox import QUERIES as OUTBOX
from services.delivery.postgres.reading import QUERIES as READING
from services.delivery.postgres.reading import delivery_of
from services.delivery.postgres.sealing import Sealing
from services.delivery.postgres.statuses import QUERIES
from services.delivery.usecases.changes import Revivals
from services.delivery.usecases.spans import Headers
from services.runtime.idempotency import Requests
from services.runtime.lanes import Append, Connection, Lanes

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

R = TypeVar("R", bound=Message)


class PostgresRevivals:
    """`Revivals` on a connection with a transaction."""

    def __init__(self, conn: Connection, lanes: Lanes, sealing: Sealing) -> None:
        self._conn = conn
        self._lanes = lanes
        self._sealing = sealing

    async def locked(self, tenant_id: str, delivery_id: UUID) -> Delivery | None:
        row = await self._conn.fetchrow(QUERIES["lock"], tenant_id, delivery_id, None)
        return None if row is None else delivery_of(row, self._sealing)

    async def store_parts(self, delivery: Delivery, before: Parts) -> None:
        await store_parts(self._conn, delivery.tenant_id, delivery.delivery_id, delivery.parts, before)

    async def keeps_place(self, lane_id: UUID, seq: int) -> bool:
        return bool(await self._conn.fetchval(QUERIES["waits"], lane_id, seq))

    async def new_place(self, lane_id: UUID, delivery: Delivery) -> int:
        append = Append(lane_id, delivery.tenant_id, share=str(delivery.channel_key))
        return (await self._lanes.append(self._conn, [append]))[lane_id]

    async def requeue(self, delivery: Delivery, lane_id: UUID, seq: int, headers: Headers) -> Delivery:
        key = delivery.tenant_id, delivery.delivery_id
        await self._conn.execute(QUERIES["requeue"], *key, lane_id, seq, *headers)
        await self._conn.execute(OUTBOX["lane_due_now"], lane_id)
        changed = await self._conn.fetchrow(READING["get"], *key)
        assert changed is not None
        return delivery_of(changed, self._sealing)


class PostgresRetryStore:
    """`RetryStore` on Postgres. `stored` is called after each commit, to wake workers."""

    def __init__(self, pool: "Pool", lanes: Lanes, sealing: Sealing, *, stored: Callable[[], None]) -> None:
        self._pool = pool
        self._lanes = lanes
        self._sealing = sealing
        self._stored = stored
        self._requests = Requests("delivery")

    async def once(
        self, request: Message, response: type[R], method: str, work: Callable[[Revivals], Awaitable[R]]
    ) -> R:
        async with self._pool.acquire() as conn, conn.transaction():
            revivals = PostgresRevivals(conn, self._lanes, self._sealing)
            result = await self._requests.once(conn, request, response, lambda: work(revivals), method=method)
        self._stored()
        return result
