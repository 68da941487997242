"""The outbox's schedule, a row per try."""

import pytest

from services.delivery.domain.retry import RetryPolicy, delay_after


@pytest.mark.parametrize(
    ("tries", "delay"),
    [
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 8),
        (5, 16),
        (6, 32),
        (7, 64),
        (8, 128),
        (9, 256),
        (10, 300),
        (11, 300),
        (49, 300),
        (50, None),
        (51, None),
    ],
)
def test_delays_grow_to_five_minutes_and_end_after_fifty_tries(tries: int, delay: float | None) -> None:
    assert delay_after(RetryPolicy(), tries, chance=0.0) == delay


@pytest.mark.parametrize(("tries", "delay"), [(1, 1), (3, 4), (4, 7.2), (10, 270)])
def test_only_later_delays_are_spread(tries: int, delay: float) -> None:
    assert delay_after(RetryPolicy(), tries, chance=0.5) == pytest.approx(delay)


def test_all_tries_together_take_more_than_three_hours() -> None:
    delays = [delay_after(RetryPolicy(), tries, 0.99) for tries in range(1, 50)]
    assert sum(delay for delay in delays if delay is not None) > 2.5 * 3600
