"""Failures as gRPC statuses, with the details of `google.rpc`."""

import traceback
from functools import cache

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from redis import exceptions as redis_errors

from parley_client.errors import CallError
from services.kernel.errors import Kind, ParleyError, storage_unavailable
from services.runtime import postgres

DOMAIN = "parley"
DETAILS_KEY = "grpc-status-details-bin"

_REDIS_AWAY = (redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.ReadOnlyError)
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE: Kind.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Kind.DEADLINE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.EXHAUSTED,
}


@cache
def status_code(kind: Kind) -> grpc.StatusCode:
    """The code of a kind of failure."""
    return grpc.StatusCode[kind.value]


def to_status(error: ParleyError) -> Status:
    """What a client gets to see of a failure."""
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.fields:
        violations = [
            BadRequest.FieldViolation(field=each.field, description=each.description, reason=error.reason)
            for each in error.fields
        ]
        details.append(BadRequest(field_violations=violations))
    if error.reason == "LIMIT_EXCEEDED":
        subject = error.metadata.get("rule_id", "")
        quota = QuotaFailure.Violation(subject=subject, description=error.message)
        details.append(QuotaFailure(violations=[quota]))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(max(0, int(error.retry_after * 1e9)))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=status_code(error.kind).value[0], message=error.message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def to_parley_error(error: BaseException) -> ParleyError:
    """Any failure as one that a client may see. Words of drivers and of our own faults stay here."""
    if isinstance(error, ParleyError):
        return error
    if isinstance(error, _REDIS_AWAY):
        return storage_unavailable("Redis")
    if isinstance(error, postgres.AWAY):
        return storage_unavailable("Postgres")
    if isinstance(error, OSError) and _raised_within(error, "asyncpg"):  # refused, reset, no socket, timed out
        return storage_unavailable("Postgres")
    if isinstance(error, CallError) and error.code in _PASSED_ON:
        kind = _PASSED_ON[error.code]
        reason = error.reason or ("DEADLINE_EXCEEDED" if kind is Kind.DEADLINE else "OVERLOADED")
        if kind is Kind.UNAVAILABLE and not error.reason:
            reason = "STORAGE_UNAVAILABLE"
        return ParleyError(kind, reason, error.message, metadata=error.metadata, retry_after=error.retry_after)
    return ParleyError(Kind.INTERNAL, "INTERNAL", "Something went wrong on our side; the log has the trace id.")


def _raised_within(error: BaseException, package: str) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").partition(".")[0] == package for frame, _ in frames)
