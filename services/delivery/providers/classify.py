"""What an HTTP provider's answer means, where the provider has no codes of its own for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.providers.http import NoAnswer, NotSent

LONGEST_WAIT = 3600.0
"""Seconds; a provider that names a longer wait is asked again after this."""

_MAY_PASS = {408, 425}
_CHANNEL_BROKEN = {401, 403}


def failure_of(status: int, headers: Mapping[str, str], error: str, now: datetime) -> Failure:
    """The failure that a status other than success stands for.

    429: retryable and no try; 408, 425 and 5xx: retryable; 401 and 403: fatal; everything else: terminal.
    """
    wait = retry_after(headers, now)
    if status == 429:
        return Failure(FailureKind.RETRYABLE, status, error, wait, rate_limited=True)
    if status in _MAY_PASS or status >= 500:
        return Failure(FailureKind.RETRYABLE, status, error, wait)
    if status in _CHANNEL_BROKEN:
        return Failure(FailureKind.FATAL, status, error)
    return Failure(FailureKind.TERMINAL, status, error)


def failure_without_answer(result: NotSent | NoAnswer) -> Failure:
    """The failure of a call that brought no answer."""
    kind = FailureKind.RETRYABLE if isinstance(result, NotSent) else FailureKind.UNKNOWN_OUTCOME
    return Failure(kind, 0, result.error)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds of `Retry-After`, a number or a date (RFC 9110, 10.2.3); None without a usable one.

    Names of `headers` are in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None
