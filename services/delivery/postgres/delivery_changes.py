"""Stores changes of a delivery that the caller has locked."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from services.delivery.domain import deliveries
from services.delivery.domain.parts import PartState
from services.runtime.lanes import Connection
from services.runtime.queries import load_queries

QUERIES = load_queries(Path(__file__).parent / "delivery_changes.sql")


async def store_parts(
    conn: Connection, tenant_id: str, delivery_id: UUID, parts: deliveries.Parts, before: deliveries.Parts
) -> None:
    """Stores new parts, and makes or removes the dead letter that follows from them."""
    state = deliveries.state(parts)
    sent_at = as_time(deliveries.last_sent(parts)) if state is PartState.SENT else None
    await conn.execute(
        QUERIES["change"],
        tenant_id,
        delivery_id,
        deliveries.to_json(parts),
        state,
        deliveries.tries(parts),
        sent_at,
    )
    dead = deliveries.dead(parts)
    if dead == deliveries.dead(before):
        return
    if dead:
        await conn.execute(QUERIES["bury"], tenant_id, delivery_id, dead)
    else:
        await conn.execute(QUERIES["raise"], tenant_id, delivery_id)


def as_time(milliseconds: int) -> datetime:
    """Of Unix milliseconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
