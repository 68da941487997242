"""What can go wrong with one call to a provider."""

from dataclasses import dataclass
from enum import IntEnum


class FailureKind(IntEnum):
    """What a failure means for the part. The numbers are those of `parley.delivery.v1.FailureKind`."""

    NONE = 0
    RETRYABLE = 1
    """May pass: 5xx, no connection, timeout before the request left, 429."""
    FATAL = 2
    """The channel is broken: 401, 403. It stops, and operators are alerted."""
    TERMINAL = 3
    """This part can never be sent."""
    UNKNOWN_OUTCOME = 4
    """The request left and no answer came: the part may have been sent."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call. `http_status` is 0 without an answer; `error` holds no text, token or phone.

    `rate_limited`: the provider asked to slow down, which is no try of the part. `retry_after`: seconds, when
    the provider named them.
    """

    kind: FailureKind
    http_status: int = 0
    error: str = ""
    retry_after: float | None = None
    rate_limited: bool = False
