"""Failures, as the domain states them. One interceptor turns them into gRPC statuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What sort of failure it is; each has one gRPC status code."""

    INVALID = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "ALREADY_EXISTS"
    CONFLICT = "ABORTED"
    PRECONDITION = "FAILED_PRECONDITION"
    EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class FieldViolation:
    """One field that breaks its rule."""

    field: str
    description: str


@dataclass(eq=False)
class ParleyError(Exception):
    """A failure that the caller may see.

    `reason` is a name of `parley.common.v1.ErrorReason` without its prefix; `retry_after` is in seconds. The message
    is for people: it says what to do next, and holds no secret and no message text.
    """

    kind: Kind
    reason: str
    message: str
    fields: tuple[FieldViolation, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.message


def invalid_field(name: str, description: str) -> ParleyError:
    return ParleyError(
        Kind.INVALID,
        "INVALID_FIELD",
        f"{name}: {description}",
        (FieldViolation(name, description),),
        {"field": name},
    )


def not_found(reason: str, what: str, key: str, value: str) -> ParleyError:
    return ParleyError(Kind.NOT_FOUND, reason, f"There is no {what} {value!r}.", metadata={key: value})


def already_exists(what: str, identifier: str) -> ParleyError:
    message = f"There is a {what} {identifier!r} already; choose another id, or update it."
    return ParleyError(Kind.EXISTS, "ALREADY_EXISTS", message, metadata={"id": identifier})


def wrong_state(message: str, state: str) -> ParleyError:
    return ParleyError(Kind.PRECONDITION, "WRONG_STATE", message, metadata={"state": state})


def storage_unavailable(store: str) -> ParleyError:
    message = f"{store} cannot be reached; try again in a moment."
    return ParleyError(
        Kind.UNAVAILABLE, "STORAGE_UNAVAILABLE", message, metadata={"store": store.lower()}, retry_after=1.0
    )
