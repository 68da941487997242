"""Failed calls as exceptions: one class per status code, with the service's reason and details."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "parley"
_REASON_PREFIX = "ERROR_REASON_"
_DETAILS_KEY = "grpc-status-details-bin"
_NOTHING: Mapping[str, str] = MappingProxyType({})
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class CallError(Exception):
    """A call that failed.

    `code` is the gRPC status. `reason` is a name of `parley.common.v1.ErrorReason` without its prefix, or "" if the
    failure came from elsewhere, such as the network or a proxy. `message` is for people. `fields` holds a pair of name
    and description for each field that broke its rule. `metadata` is what the reason documents. `retry_after` is in
    seconds, or None if the service did not say.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        fields: tuple[tuple[str, str], ...] = (),
        metadata: Mapping[str, str] = _NOTHING,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.fields = fields
        self.metadata = metadata
        self.retry_after = retry_after

    def __str__(self) -> str:
        name = f"{self.code.name}/{self.reason}" if self.reason else self.code.name
        return f"{name}: {self.message}"


class InvalidArgument(CallError):
    """The request is wrong in any state; `fields` names what to change."""


class Unauthenticated(CallError):
    """The token or key is missing, wrong or expired."""


class PermissionDenied(CallError):
    """The caller may not do this, or not for this tenant."""


class NotFound(CallError):
    """There is no such thing."""


class AlreadyExists(CallError):
    """It exists already, or the request id was used with another body."""


class Aborted(CallError):
    """Somebody else changed it first: read it again, then repeat the change."""


class FailedPrecondition(CallError):
    """The state does not allow it; a repeat fails too until the state changes."""


class ResourceExhausted(CallError):
    """A limit is reached, or the service sheds load; `retry_after` says when to come back."""


class Unavailable(CallError):
    """The service or its storage is away; repeating the call later is safe."""


class DeadlineExceeded(CallError):
    """The time is up. The service may have done the work; the request id makes a repeat safe."""


class Internal(CallError):
    """The service has a fault; its log has the trace id."""


CLASSES: Mapping[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INTERNAL: Internal,
}


def from_status(status: status_pb2.Status) -> CallError:
    """Makes the exception for a rich status, such as that of a batch's item. Leaves out unknown details."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, retry_after = "", None
    metadata = _NOTHING
    fields: tuple[tuple[str, str], ...] = ()
    for detail in status.details:
        match detail.type_url.rpartition("/")[2]:
            case "google.rpc.ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                if info.domain == DOMAIN:
                    reason, metadata = info.reason.removeprefix(_REASON_PREFIX), dict(info.metadata)
            case "google.rpc.BadRequest":
                violations = error_details_pb2.BadRequest.FromString(detail.value).field_violations
                fields = tuple((violation.field, violation.description) for violation in violations)
            case "google.rpc.RetryInfo":
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
    return CLASSES.get(code, CallError)(
        code, status.message, reason=reason, fields=fields, metadata=metadata, retry_after=retry_after
    )


def from_rpc_error(error: grpc.RpcError, service: str) -> CallError:
    """Makes the exception for a failed RPC, with the details from its trailing metadata if they can be read.

    If nobody could be reached, the message names the `service` instead of its addresses.
    """
    packed = _details(error.trailing_metadata())
    if packed is not None:
        status = status_pb2.Status()
        try:
            status.ParseFromString(packed)
        except ValueError:  # foreign or damaged details: the plain status is still right
            status.Clear()
        if status.code == error.code().value[0]:
            return from_status(status)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return of_code(error.code(), f"{service} is not answering")
    return of_code(error.code(), error.details() or error.code().name)


def of_code(code: grpc.StatusCode, message: str) -> CallError:
    """Makes the exception for a bare status code."""
    return CLASSES.get(code, CallError)(code, message)


def _details(metadata: Iterable[Any] | None) -> bytes | None:
    for key, value in metadata or ():  # pairs; async and blocking channels type them differently
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
