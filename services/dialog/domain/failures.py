"""Decisions that fail, and what that means for their messages."""

from enum import Enum


class FailureKind(Enum):
    """What a failure of a decision means for the message."""

    RETRYABLE = "retryable"
    """May pass: 429, 5xx, timeout. The decision is tried again."""
    FATAL = "fatal"
    """The bot is broken: 401, 403. It is marked so, and operators are alerted."""
    TERMINAL = "terminal"
    """Trying again would not help."""


class Blame(Enum):
    """Whether a failure may be the message's own, and so whether its attempt counts."""

    MESSAGE = "message"
    """The model answers others."""
    NOBODY = "nobody"
    """Nobody can tell: it has answered nobody of late. The attempt counts, but is not the last one."""
    ENDPOINT = "endpoint"
    """It is away, as far as anybody can tell. The attempt does not count."""


class DecisionError(Exception):
    """A flow could not decide.

    `reason` is the name of an ErrorReason (`MODEL_UNAVAILABLE`, `MODEL_TIMEOUT`, `MODEL_REJECTED`, `INTERNAL`);
    `retry_after` is in seconds, when the model's endpoint named it, or when it may be asked again. `reservation_id` is
    what the turn holds of its quota, for who gives it up; "" when it holds nothing.
    """

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        message: str,
        retry_after: float | None = None,
        blame: Blame = Blame.MESSAGE,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.retry_after = retry_after
        self.blame = blame
        self.reservation_id = ""
