"""DLG-3, DLG-12: what follows a failed decision."""

from datetime import timedelta
from math import inf

import pytest

from services.dialog.domain.failures import Blame, DecisionError, FailureKind
from services.dialog.domain.retry import (
    GiveUp,
    TooLate,
    TryAgain,
    after_failure,
)

RETRYABLE, FATAL, TERMINAL = FailureKind.RETRYABLE, FailureKind.FATAL, FailureKind.TERMINAL
MESSAGE, NOBODY, ENDPOINT = Blame.MESSAGE, Blame.NOBODY, Blame.ENDPOINT


def failure(
    kind: FailureKind = RETRYABLE, retry_after: float | None = None, blame: Blame = Blame.MESSAGE
) -> DecisionError:
    return DecisionError(kind, "MODEL_UNAVAILABLE", "no", retry_after, blame)


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
    what = after_failure(failure(kind, retry_after), attempts, jitter=jitter)
    assert what == (GiveUp() if seconds is None else TryAgain(timedelta(seconds=seconds)))


@pytest.mark.parametrize(
    ("blame", "attempts", "counted"),
    [(MESSAGE, 2, True), (NOBODY, 2, True), (NOBODY, 3, False), (ENDPOINT, 1, False), (ENDPOINT, 3, False)],
)
def test_an_attempt_counts_when_the_message_may_be_to_blame(blame: Blame, attempts: int, counted: bool) -> None:
    what = after_failure(failure(blame=blame), attempts, left=60)
    assert isinstance(what, TryAgain)
    assert what.counted == counted


@pytest.mark.parametrize(
    ("blame", "attempts", "retry_after", "left", "expected"),
    [
        (ENDPOINT, 1, 8.0, 5.0, TryAgain(timedelta(seconds=5), counted=False)),  # in time to be told
        (ENDPOINT, 1, 8.0, 0.0, TooLate(timedelta(seconds=30))),
        (ENDPOINT, 1, 45.0, -1.0, TooLate(timedelta(seconds=45))),
        (NOBODY, 3, None, -1.0, TooLate(timedelta(seconds=30))),
        (NOBODY, 1, None, -1.0, TryAgain(timedelta(seconds=1))),  # it may have begun late, behind others
        (NOBODY, 2, None, 1.0, TryAgain(timedelta(seconds=2))),
        (NOBODY, 2, None, 0.0, TooLate(timedelta(seconds=30))),  # each call may have taken half a minute
        (MESSAGE, 2, None, -1.0, TryAgain(timedelta(seconds=2))),
        (MESSAGE, 1, 200.0, 60.0, TooLate(timedelta(seconds=200))),
        (MESSAGE, 1, 20.0, -1.0, TryAgain(timedelta(seconds=20))),
        (ENDPOINT, 1, 1000.0, inf, TryAgain(timedelta(seconds=300), counted=False)),
    ],
)
def test_nobody_waits_for_a_model_beyond_the_time_for_an_answer(
    blame: Blame, attempts: int, retry_after: float | None, left: float, expected: object
) -> None:
    assert after_failure(failure(retry_after=retry_after, blame=blame), attempts, left=left) == expected
