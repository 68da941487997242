"""Failed calls as exceptions: one class a status code, with the reason and details that the service gave."""

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

    `code`: the gRPC status. `reason`: a name of `parley.common.v1.ErrorReason` without its prefix, "" when the failure
    came from elsewhere (the network, a proxy). `message`: for people. `fields`: pairs of field and description for each
    field that broke its rule. `metadata`: as the reason documents. `retry_after`: seconds, None when the service said
    nothing of it.
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
    """The request is wrong whatever the state; `fields` names what to change."""


class Unauthenticated(CallError):
    """The token or key is missing, wrong or expired."""


class PermissionDenied(CallError):
    """The caller may not do this, or not for this tenant."""


class NotFound(CallError):
    """There is no such thing."""


class AlreadyExists(CallError):
    """It is there already, or the request id was used with another body."""


class Aborted(CallError):
    """Somebody else changed it first: read again, then try again."""


class FailedPrecondition(CallError):
    """The state does not allow it; trying again does not help until the state changes."""


class ResourceExhausted(CallError):
    """A limit is reached, or load is shed; `retry_after` says when to come back."""


class Unavailable(CallError):
    """The service or its storage is away; trying again later is safe."""


class DeadlineExceeded(CallError):
    """The time was up. Whether the service has done the work is unknown; the request id makes a repeat safe."""


class Internal(CallError):
    """A fault of the service; its log has the trace id."""


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
    """The exception of a rich status, as an item of a batch carries it. Unknown details are left out."""
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
    """The exception of a failed RPC, with the details of its trailing metadata when it has some that can be read.

    When the network says that nobody is there, the message names the `service`, not its addresses.
    """
    packed = _details(error.trailing_metadata())
    if packed is not None:
        status = status_pb2.Status()
        try:
            status.ParseFromString(packed)
        except ValueError:  # not ours, or damaged on the way: the plain status still stands
            status.Clear()
        if status.code == error.code().value[0]:
            return from_status(status)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return of_code(error.code(), f"{service} is not answering")
    return of_code(error.code(), error.details() or error.code().name)


def of_code(code: grpc.StatusCode, message: str) -> CallError:
    """The exception of a bare status code."""
    return CLASSES.get(code, CallError)(code, message)


def _details(metadata: Iterable[Any] | None) -> bytes | None:
    for key, value in metadata or ():  # pairs, which either kind of channel types in its own way
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
