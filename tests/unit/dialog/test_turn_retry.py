"""DLG-3: what follows a failed decision."""

from datetime import timedelta

import pytest

from services.dialog.domain import FailureKind
from services.dialog.retry import GiveUp, TryAgain, after_failure

RETRYABLE, FATAL, TERMINAL = FailureKind.RETRYABLE, FailureKind.FATAL, FailureKind.TERMINAL


@pytest.mark.parametrize(
    ("kind", "attempts", "retry_after", "jitter", "seconds"),
    [
        (RETRYABLE, 1, None, 0.5, 1.0),
        (RETRYABLE, 2, None, 0.5, 2.0),
        (RETRYABLE, 1, None, 0.0, 0.8),
        (RETRYABLE, 2, None, 1.0, 2.4),
        (RETRYABLE, 1, 7.5, 0.5, 7.5),
        (RETRYABLE, 2, 0.5, 0.5, 2.0),
        (RETRYABLE, 1, 86400.0, 0.5, 300.0),
        (RETRYABLE, 3, None, 0.5, None),
        (RETRYABLE, 4, 1.0, 0.5, None),
        (FATAL, 1, None, 0.5, None),
        (TERMINAL, 1, None, 0.5, None),
        (TERMINAL, 1, 5.0, 0.5, None),
    ],
)
def test_a_failure_is_tried_again_later_or_given_up(
    kind: FailureKind, attempts: int, retry_after: float | None, jitter: float, seconds: float | None
) -> None:
    what = after_failure(kind, attempts, retry_after=retry_after, jitter=jitter)
    assert what == (GiveUp() if seconds is None else TryAgain(timedelta(seconds=seconds)))
