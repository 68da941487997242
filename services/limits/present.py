"""Answers as the contract has them."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley.limits.v1 import limits_pb2 as pb

from services.limits.ports import Answer, Ask, Use
from services.limits.tokens import Line

UNLIMITED = pb.ReserveResponse(granted=True)
"""No rule holds anything."""


def duration(milliseconds: int) -> Duration:
    seconds, rest = divmod(max(milliseconds, 0), 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def timestamp(milliseconds: int) -> Timestamp:
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def statuses(lines: Sequence[Line], uses: Sequence[Use]) -> list[pb.LimitStatus]:
    return [status(line, use) for line, use in zip(lines, uses, strict=False)]


def status(line: Line, use: Use) -> pb.LimitStatus:
    return pb.LimitStatus(
        rule_id=line.rule_id,
        limit=line.limit,
        used=use.used,
        remaining=max(line.limit - use.used, 0),
        resets_at=timestamp(line.ends if line.is_quota else use.resets),
        shadow=line.shadow,
        daily=line.is_quota,
    )


def granted(ask: Ask, answer: Answer, reservation_id: str) -> pb.ReserveResponse:
    response = pb.ReserveResponse(
        granted=True, reservation_id=reservation_id, statuses=statuses(ask.lines, answer.uses)
    )
    if answer.wait > 0:
        response.wait.CopyFrom(duration(answer.wait))
    return response


def refused(ask: Ask, answer: Answer, now: int) -> pb.ReserveResponse:
    return pb.ReserveResponse(
        granted=False,
        statuses=statuses(ask.lines, answer.uses),
        refused_by=ask.lines[answer.refused_by].rule_id,
        retry_after=retry_after(ask, answer, now),
    )


def checked(ask: Ask, answer: Answer, now: int) -> pb.CheckResponse:
    if answer.refused_by < 0:
        return pb.CheckResponse(allowed=True, statuses=statuses(ask.lines, answer.uses))
    return pb.CheckResponse(
        allowed=False,
        statuses=statuses(ask.lines, answer.uses),
        refused_by=ask.lines[answer.refused_by].rule_id,
        retry_after=retry_after(ask, answer, now),
    )


def retry_after(ask: Ask, answer: Answer, now: int) -> Duration:
    """From now; a used-up quota comes back when its day ends."""
    return duration(answer.retry_after or ask.lines[answer.refused_by].ends - now)
