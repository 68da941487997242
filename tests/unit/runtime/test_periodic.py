"""Periodic work: soon after the start, again and again, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from services.runtime import background as module
from services.runtime.background import first_pause, periodic, spread


@asynccontextmanager
async def running(background: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(background(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("every", "chance", "seconds"),
    [(3600.0, 0.0, 0.0), (3600.0, 0.5, 5.0), (3600.0, 1.0, 10.0), (2.0, 0.5, 1.0), (2.0, 1.0, 2.0)],
)
def test_the_first_run_comes_soon_after_the_start(every: float, chance: float, seconds: float) -> None:
    assert first_pause(every, chance) == seconds


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 540.0), (0.5, 600.0), (1.0, 660.0)])
def test_replicas_drift_apart(chance: float, seconds: float) -> None:
    assert spread(600.0, chance) == pytest.approx(seconds)


async def test_hourly_work_runs_in_a_process_that_is_restarted_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.01)
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)

    for _ in range(3):
        async with running(periodic("tidying", work, every=3600.0)):
            await until(lambda: runs)
        runs.clear()


async def test_a_failure_ends_nothing_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) <= 3:
            raise RuntimeError("the store refuses")

    with capture_logs() as logged:
        async with running(periodic("tidying", work, every=0.001)):
            await until(lambda: len(runs) >= 6)
    assert [(entry["log_level"], entry["work"]) for entry in logged] == [("warning", "tidying"), ("info", "tidying")]


async def test_failed_work_of_every_hour_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.001)
    monkeypatch.setattr(module, "RETRY", 0.001)
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError("away")

    async with running(periodic("tidying", work, every=3600.0)):
        await until(lambda: len(runs) == 2)


async def test_work_that_leaves_more_to_do_goes_on_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.001)
    left = [3, 2, 1, 0]

    async def work() -> int:
        return left.pop(0)

    async with running(periodic("tidying", work, every=3600.0, soon=0.001)):
        await until(lambda: not left)


async def test_a_number_of_things_done_is_no_reason_to_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.001)
    runs: list[int] = []

    async def work() -> int:
        runs.append(1)
        return 100

    async with running(periodic("tidying", work, every=3600.0)):
        await until(lambda: runs)
        await asyncio.sleep(0.02)
    assert len(runs) == 1
