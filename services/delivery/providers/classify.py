"""What an HTTP provider's answer means, where the provider has no codes of its own for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.providers.exchanges import NoAnswer, NotSent

LONGEST_WAIT = 3600.0
"""Seconds; a provider that names a longer wait is asked again after this."""

_MAY_PASS = {408, 425}
_CHANNEL_BROKEN = {401, 403}
_REDIRECTS = {301, 302, 303, 307, 308}


def failure_of(status: int, headers: Mapping[str, str], error: str, now: datetime) -> Failure:
    """The failure that a status other than success stands for.

    429: retryable and no try; 408, 425 and 5xx: retryable; 401, 403 and redirects: fatal; everything else: terminal.
    """
    wait = retry_after(headers, now)
    if status == 429:
        return Failure(FailureKind.RETRYABLE, status, error, wait, rate_limited=True)
    if status in _MAY_PASS or status >= 500:
        return Failure(FailureKind.RETRYABLE, status, error, wait)
    if status in _REDIRECTS:
        return Failure(
            FailureKind.FATAL, status, "api_base: it answers with a redirect, and redirects are not followed"
        )
    if status in _CHANNEL_BROKEN:
        return Failure(FailureKind.FATAL, status, error)
    return Failure(FailureKind.TERMINAL, status, error)


def failure_without_answer(result: NotSent | NoAnswer) -> Failure:
    """The failure of a call that brought no answer. An address that can never be called breaks its channel."""
    if isinstance(result, NoAnswer):
        return Failure(FailureKind.UNKNOWN_OUTCOME, 0, result.error)
    if result.wrong_address:
        return Failure(FailureKind.FATAL, 0, f"api_base: {result.error}")
    return Failure(FailureKind.RETRYABLE, 0, result.error)


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
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None
