"""Queues dead parts again when an operator says so."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.delivery.domain import parts as part_rules
from services.delivery.domain.outbox import Delivery, lane_of
from services.delivery.domain.parts import PartState
from services.delivery.postgres.changing import store_parts
from services.delivery.postgres.reading import QUERIES as READING
from services.delivery.postgres.reading import delivery_of
from services.delivery.postgres.sealing import Sealing
from services.delivery.postgres.sending import QUERIES as OUTBOX
from services.delivery.postgres.statuses import QUERIES
from services.delivery.usecases.ports import Headers
from services.kernel.errors import not_found, wrong_state
from services.runtime.idempotency import Requests
from services.runtime.lanes import Append, Connection, Lanes

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

R = TypeVar("R", bound=Message)


class Revival:
    """Changes within one transaction."""

    def __init__(self, conn: Connection, lanes: Lanes, sealing: Sealing) -> None:
        self._conn = conn
        self._lanes = lanes
        self._sealing = sealing

    async def revive(self, tenant_id: str, delivery_id: UUID, begin_trace: Callable[[Delivery], Headers]) -> Delivery:
        """Makes the dead parts wait again: in their place if nobody has come by it, else at the end of the lane.

        `begin_trace` gives the trace headers of this new sending. Raises DELIVERY_NOT_FOUND, and WRONG_STATE when no
        part is dead.
        """
        row = await self._conn.fetchrow(QUERIES["lock"], tenant_id, delivery_id, None)
        if row is None:
            raise not_found("DELIVERY_NOT_FOUND", "delivery", "delivery_id", str(delivery_id))
        delivery = delivery_of(row, self._sealing)
        if not any(part.state is PartState.DEAD for part in delivery.parts):
            raise wrong_state("No part of this delivery is dead, so there is nothing to send again.", "not_dead")
        parts = tuple(part_rules.revived(part) if part.state is PartState.DEAD else part for part in delivery.parts)
        await store_parts(self._conn, tenant_id, delivery_id, parts, before=delivery.parts)
        lane_id, seq = delivery.lane_id, delivery.seq
        if not await self._conn.fetchval(QUERIES["waits"], lane_id, seq):
            lane_id = lane_of(delivery.channel_key, delivery.conversation_id)
            seq = (await self._lanes.append(self._conn, [Append(lane_id, tenant_id, share=str(delivery.channel_key))]))[
                lane_id
            ]
        await self._conn.execute(QUERIES["requeue"], tenant_id, delivery_id, lane_id, seq, *begin_trace(delivery))
        await self._conn.execute(OUTBOX["lane_due_now"], lane_id)
        changed = await self._conn.fetchrow(READING["get"], tenant_id, delivery_id)
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
        self, request: Message, response: type[R], method: str, work: Callable[[Revival], Awaitable[R]]
    ) -> R:
        """Lets `work` revive a delivery in one transaction, once per request id."""
        async with self._pool.acquire() as conn, conn.transaction():
            revival = Revival(conn, self._lanes, self._sealing)
            result = await self._requests.once(conn, request, response, lambda: work(revival), method=method)
        self._stored()
        return result
