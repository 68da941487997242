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
    """Who may have caused a failure, and so whether the attempt counts."""

    MESSAGE = "message"
    """The message, as the model answers others. The attempt counts."""
    NOBODY = "nobody"
    """Unknown, as the model has answered nobody recently. The attempt counts, but it is never the last one."""
    ENDPOINT = "endpoint"
    """The model's endpoint, which seems to be away. The attempt does not count."""


class DecisionError(Exception):
    """A flow could not decide.

    `reason` is the name of an ErrorReason, for example `MODEL_TIMEOUT`. `retry_after` is in seconds: what the model's
    endpoint asked for, or when it may be asked again. `reservation_id` is the turn's hold on its quota, which whoever
    gives the turn up gives back; "" when there is none.
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
