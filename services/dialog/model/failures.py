"""What a failed model call means for the turn."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx2
import openai

from services.dialog.domain.failures import DecisionError, FailureKind

_PASSING_CODES = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout", "overloaded", ""})
_OUT_OF_MONEY = "insufficient_quota"
LONGEST_WAIT = 3600.0
"""Seconds; an endpoint that asks for more is asked again after this."""


def classify(error: Exception) -> DecisionError:
    """The failure as the turn sees it. Messages name the status, never what was sent or the key."""
    match error:
        case openai.APITimeoutError() | httpx2.TimeoutException() if _was_disconnected(error):
            return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "The model's endpoint cannot be reached.")
        case TimeoutError() | openai.APITimeoutError() | httpx2.TimeoutException():
            return DecisionError(FailureKind.RETRYABLE, "MODEL_TIMEOUT", "The model did not answer in time.")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            message = f"The model's endpoint refused the key with {error.status_code}."
            return DecisionError(FailureKind.FATAL, "MODEL_REJECTED", message)
        case openai.APIStatusError(status_code=429) if error.code == _OUT_OF_MONEY:
            message = "The model's account has no money left (429 insufficient_quota)."
            return DecisionError(FailureKind.FATAL, "MODEL_REJECTED", message)
        case openai.APIStatusError(status_code=status) if status in (408, 409, 429) or status >= 500:
            wait = retry_after(error.response.headers)
            message = f"The model's endpoint answered {status}."
            return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", message, wait)
        case openai.APIStatusError(status_code=status):
            message = f"The model's endpoint refused the request with {status} {error.code or ''}.".replace(" .", ".")
            return DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", message)
        case openai.APIConnectionError() | httpx2.TransportError() | aiohttp.ClientError():
            return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "The model's endpoint cannot be reached.")
        case openai.APIResponseValidationError() | ValueError():  # broken JSON, or not what a response looks like
            return DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "The model's endpoint answered nonsense.")
        case openai.APIError():  # an error event in the middle of a stream
            return of_code(error.code or "")
    return DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", f"The model call failed: {type(error).__name__}.")


def _was_disconnected(error: BaseException) -> bool:
    """Whether the connection ended: the client's transport gives every such failure the name of a timeout."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return cause is not None and not isinstance(cause, TimeoutError)


def of_code(code: str) -> DecisionError:
    """The failure that an event of a stream, or a failed response, tells by its code."""
    if code in _PASSING_CODES:
        text = f"The model failed: {code or 'no code given'}."
        return DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", text)
    return DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", f"The model refused: {code}.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after`, which is in seconds or a date; None when not told."""
    milliseconds, said = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds:
            seconds = float(milliseconds) / 1000
        elif said and not said.strip()[:1].isalpha():
            seconds = float(said)
        elif said:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        else:
            return None
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None
