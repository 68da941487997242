from datetime import UTC, date, datetime, timedelta

from services.telemetry.domain.traces import DaysKept, place, upkeep

KEPT = DaysKept(all_days=7, important_days=30, slow=timedelta(seconds=10))
TODAY = date(2026, 11, 21)


def days(first: int, last: int) -> list[date]:
    return [TODAY + timedelta(days=offset) for offset in range(first, last + 1)]


def test_partitions_are_made_for_yesterday_to_the_day_after_tomorrow() -> None:
    assert upkeep(TODAY, TODAY, {}, KEPT).create == tuple(days(-1, 2))
    assert upkeep(TODAY, TODAY, dict.fromkeys(days(-1, 1), False), KEPT).create == tuple(days(2, 2))


def test_a_day_is_thinned_when_all_of_it_is_a_week_old() -> None:
    work = upkeep(TODAY, TODAY, dict.fromkeys(days(-10, 2), False), KEPT)
    assert work.thin == tuple(days(-10, -8))
    assert work.drop == ()


def test_a_day_is_thinned_once() -> None:
    existing = dict.fromkeys(days(-7, 2), False) | dict.fromkeys(days(-30, -8), True)
    work = upkeep(TODAY, TODAY, existing, KEPT)
    assert (work.create, work.thin, work.drop) == ((), (), ())


def test_a_day_is_dropped_after_a_month_without_being_thinned_first() -> None:
    work = upkeep(TODAY, TODAY, dict.fromkeys(days(-32, 2), False), KEPT)
    assert work.drop == tuple(days(-32, -31))
    assert not set(work.drop) & set(work.thin)


def test_important_traces_are_never_kept_for_less_time_than_the_others() -> None:
    work = upkeep(TODAY, TODAY, dict.fromkeys(days(-7, 2), False), DaysKept(7, 1, timedelta()))
    assert (work.thin, work.drop) == ((), ())


def test_a_start_far_from_now_is_brought_near() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    near = now - timedelta(hours=20)
    assert place(near, now) == near
    assert place(datetime(1970, 1, 1, tzinfo=UTC), now) == now - timedelta(hours=23)
    assert place(datetime(9999, 12, 31, tzinfo=UTC), now) == now + timedelta(hours=23)
