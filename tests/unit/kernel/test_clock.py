"""Clocks."""

from datetime import UTC, datetime, timedelta

from services.kernel.clock import SteadyClock

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Settable:
    """The machine's, which somebody sets."""

    at = T0

    def now(self) -> datetime:
        return self.at


def test_a_steady_clock_does_not_go_back_with_the_machines() -> None:
    machine, passed = Settable(), [7.0]
    clock = SteadyClock(machine, lambda: passed[0])
    assert clock.now() == T0
    machine.at -= timedelta(hours=1)
    passed[0] += 30
    assert clock.now() == T0 + timedelta(seconds=30)
