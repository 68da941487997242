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

LONGEST_MESSAGE = 512
"""Characters of a failure's message; what is beyond is cut off."""
LONGEST_WORD = 256
"""Characters of a field's name, a description or a value."""
LARGEST_DETAILS = 6 * 1024
"""Bytes of the details: they travel as trailing metadata, of which clients take 8 KB."""

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
    """What a client gets to see of a failure, within bounds: a message may quote what the client has sent."""
    metadata = {key: _cut(value) for key, value in error.metadata.items()}
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    message = _cut(error.message, LONGEST_MESSAGE)
    if error.fields:
        details.append(_bad_request(error))
    if error.reason == "LIMIT_EXCEEDED":
        subject = metadata.get("rule_id", "")
        quota = QuotaFailure.Violation(subject=subject, description=message)
        details.append(QuotaFailure(violations=[quota]))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(max(0, int(error.retry_after * 1e9)))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=status_code(error.kind).value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(error: ParleyError) -> BadRequest:
    """As many violations as have room."""
    told: list[BadRequest.FieldViolation] = []
    size = 0
    for each in error.fields:
        violation = BadRequest.FieldViolation(
            field=_cut(each.field), description=_cut(each.description), reason=error.reason
        )
        size += violation.ByteSize()
        if told and size > LARGEST_DETAILS - 3 * 1024:
            break
        told.append(violation)
    return BadRequest(field_violations=told)


def _cut(text: str, longest: int = LONGEST_WORD) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


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
