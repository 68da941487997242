"""Sends dead parts again when an operator says so."""

from dataclasses import replace
from uuid import UUID

from parley.delivery.v1.delivery_pb2 import RetryDeliveryRequest

from services.delivery.domain import parts
from services.delivery.domain.outbox import Delivery, lane_of
from services.delivery.domain.parts import PartState
from services.delivery.usecases import spans
from services.delivery.usecases.changes import Revivals
from services.kernel.errors import not_found, wrong_state


async def revive(revivals: Revivals, request: RetryDeliveryRequest) -> Delivery:
    """Makes the dead parts of a delivery wait again: in their place if nobody has passed it, else at the end of the
    lane. Begins a new trace.

    Raises DELIVERY_NOT_FOUND, and WRONG_STATE when no part is dead.
    """
    delivery = await revivals.locked(request.tenant_id, UUID(request.delivery_id))
    if delivery is None:
        raise not_found("DELIVERY_NOT_FOUND", "delivery", "delivery_id", request.delivery_id)
    if not any(part.state is PartState.DEAD for part in delivery.parts):
        raise wrong_state("No part of this delivery is dead, so there is nothing to send again.", "not_dead")
    revived = tuple(parts.revived(part) if part.state is PartState.DEAD else part for part in delivery.parts)
    await revivals.store_parts(replace(delivery, parts=revived), before=delivery.parts)
    lane_id, seq = delivery.lane_id, delivery.seq
    if not await revivals.keeps_place(lane_id, seq):
        lane_id = lane_of(delivery.channel_key, delivery.conversation_id)
        seq = await revivals.new_place(lane_id, delivery)
    span, headers = spans.sent_again(None, delivery.traceparent, delivery.tenant_id, request.delivery_id)
    span.end()
    return await revivals.requeue(delivery, lane_id, seq, headers)
