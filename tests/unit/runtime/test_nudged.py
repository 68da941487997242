"""What others may change is looked at when somebody says so, and now and then in case that was lost."""

import asyncio
from collections.abc import Callable

from structlog.testing import capture_logs

from services.runtime.background import nudged

NEVER = 3600.0


class Looks:
    """Counts looks, and fails as it is told."""

    def __init__(self, *fails: bool) -> None:
        self.fails = list(fails)
        self.done = 0
        self._changed = asyncio.Event()

    async def look(self) -> None:
        self.done += 1
        self._changed.set()
        if self.fails and self.fails.pop(0):
            raise ConnectionError("away")

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(30):
            while self.done < count:
                self._changed.clear()
                await self._changed.wait()


class Looking:
    """Looks until it is told to stop."""

    def __init__(self, looks: Looks, poll: Callable[[], float]) -> None:
        self.stop, self.nudged = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(
            nudged("test", looks.look, self.nudged, poll=poll, failing="it fails")(self.stop)
        )

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(30):
            await self.task


async def test_a_nudge_is_followed_by_a_look_also_one_that_comes_while_looking() -> None:
    looks = Looks()
    looking = Looking(looks, lambda: NEVER)
    for count in (1, 2, 3):
        looking.nudged.set()
        await looks.reach(count)
    await looking.end()
    assert looks.done == 3


async def test_without_a_nudge_the_next_look_comes_when_it_is_due() -> None:
    looks = Looks()
    pauses = iter([0.0, 0.0])
    looking = Looking(looks, lambda: next(pauses, NEVER))
    await looks.reach(2)
    await looking.end()
    assert looks.done == 2


async def test_a_look_that_fails_is_repeated_and_told_of_once() -> None:
    looks = Looks(True, True, False, True)
    looking = Looking(looks, lambda: NEVER)
    with capture_logs() as logged:
        for count in range(1, 6):
            looking.nudged.set()
            await looks.reach(count)
        await looking.end()
    assert [entry["event"] for entry in logged] == ["it fails", "it fails"]


async def test_who_is_told_to_stop_looks_no_more() -> None:
    looks = Looks()
    looking = Looking(looks, lambda: NEVER)
    looking.nudged.set()
    await looking.end()
    assert looks.done == 0
