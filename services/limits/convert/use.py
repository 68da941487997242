"""Requests about use as the domain has them, and answers as the contract has them."""

from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import invalid_field
from services.limits.convert.rules import duration
from services.limits.domain.asks import TTL, Answer, Ask, Request, Use
from services.limits.domain.reservations import Hold
from services.limits.domain.rules import Subject
from services.limits.domain.settlements import Charged, Settled, Settlement

UNLIMITED = pb.ReserveResponse(granted=True)
"""No rule holds anything."""


def reserve_from(message: pb.ReserveRequest) -> Request:
    """Raises INVALID_FIELD."""
    return Request(
        message.tenant_id,
        message.resource,
        subject_from(message.subject),
        message.units or 1,
        request_id=message.request_id,
        amounts=amounts_from(message.amounts),
        ttl=max(message.ttl.ToMilliseconds(), 1) if message.HasField("ttl") else TTL,
        max_wait=message.max_wait.ToMilliseconds(),
        lasts=message.lasts.ToMilliseconds(),
        broadcast=message.priority == pb.PRIORITY_BROADCAST,
    )


def check_from(message: pb.CheckRequest) -> Request:
    """Raises INVALID_FIELD."""
    return Request(
        message.tenant_id,
        message.resource,
        subject_from(message.subject),
        message.units or 1,
        amounts=amounts_from(message.amounts),
        broadcast=message.priority == pb.PRIORITY_BROADCAST,
    )


def subject_from(message: pb.Subject) -> Subject:
    return Subject(message.bot_id, message.channel_id, message.contact_id, message.conversation_id)


def amounts_from(amounts: Iterable[pb.Amount]) -> dict[str, int]:
    """Raises INVALID_FIELD when a unit is named twice."""
    given = [(amount.unit, amount.value) for amount in amounts]
    found = dict(given)
    if len(found) < len(given):
        raise invalid_field("amounts", "names a unit twice")
    return found


def granted(ask: Ask, answer: Answer, reservation_id: str) -> pb.ReserveResponse:
    response = pb.ReserveResponse(
        granted=True, reservation_id=reservation_id, statuses=statuses(ask.holds, answer.uses)
    )
    if answer.wait > 0:
        response.wait.CopyFrom(duration(answer.wait))
    return response


def refused(ask: Ask, answer: Answer, now: int) -> pb.ReserveResponse:
    return pb.ReserveResponse(
        granted=False,
        statuses=statuses(ask.holds, answer.uses),
        refused_by=ask.holds[answer.refused_by].rule_id,
        retry_after=retry_after(ask, answer, now),
    )


def checked(ask: Ask, answer: Answer, now: int) -> pb.CheckResponse:
    if answer.refused_by < 0:
        return pb.CheckResponse(allowed=True, statuses=statuses(ask.holds, answer.uses))
    return pb.CheckResponse(
        allowed=False,
        statuses=statuses(ask.holds, answer.uses),
        refused_by=ask.holds[answer.refused_by].rule_id,
        retry_after=retry_after(ask, answer, now),
    )


def committed(settlement: Settlement, charged: Charged | None, settled: Settled | None) -> pb.CommitResponse:
    """What Postgres has charged; what only Redis counts is not told."""
    if charged is None:
        return pb.CommitResponse(replayed=settled is not None and settled.replayed)
    response = pb.CommitResponse(replayed=not charged.fresh)
    for index, hold in enumerate(settlement.reservation.body.holds):
        if hold.is_counted_in_postgres:
            used = charged.counts[hold.rule_id].used if settled is None else settled.uses[index]
            response.statuses.append(status(hold, Use(used)))
    return response


def statuses(holds: Sequence[Hold], uses: Sequence[Use]) -> list[pb.LimitStatus]:
    return [status(hold, use) for hold, use in zip(holds, uses, strict=False)]


def status(hold: Hold, use: Use) -> pb.LimitStatus:
    return pb.LimitStatus(
        rule_id=hold.rule_id,
        limit=hold.limit,
        used=use.used,
        remaining=max(hold.limit - use.used, 0),
        resets_at=_timestamp(hold.ends or use.resets),
        shadow=hold.shadow,
        daily=hold.is_daily_quota,
        unit=hold.unit,
    )


def retry_after(ask: Ask, answer: Answer, now: int) -> Duration:
    """From now; what is used up comes back when its period ends."""
    return duration(answer.retry_after or ask.holds[answer.refused_by].ends - now)


def _timestamp(milliseconds: int) -> Timestamp:
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)
