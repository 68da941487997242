"""A stream that breaks is followed again; pauses grow while it keeps breaking, and start anew when it stood."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from services.runtime import background
from services.runtime.background import following, next_pause


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)


@pytest.mark.parametrize(
    ("before", "stood", "pause"),
    [(0.0, 0.0, 0.1), (0.1, 0.0, 0.2), (0.2, 4.9, 0.4), (3.2, 0.0, 5.0), (5.0, 4.9, 5.0), (5.0, 5.0, 0.1)],
)
def test_pauses_grow_until_a_connection_was_healthy(
    before: float, stood: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.1)
    assert next_pause(before, stood, 5.0) == pause


class Stream:
    """Breaks as told; stands at the last try."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.tries = 0
        self.standing = asyncio.Event()
        self.cancelled = False

    async def connect(self, stands: Callable[[], None]) -> None:
        self.tries += 1
        if self.errors:
            error = self.errors.pop(0)
            if error is None:
                return
            raise error
        stands()
        self.standing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_whatever_breaks_it_the_stream_is_followed_again_and_left_when_told() -> None:
    stream = Stream(ConnectionError("away"), ValueError("not understood"), None, OSError())
    stop = asyncio.Event()
    with capture_logs() as logged:
        task = asyncio.create_task(following("test", stream.connect)(stop))
        await asyncio.wait_for(stream.standing.wait(), 30)
        stop.set()
        await asyncio.wait_for(task, 30)
    assert (stream.tries, stream.cancelled) == (5, True)
    assert [(entry["event"], entry["to"]) for entry in logged] == [("connection lost", "test")]


async def test_it_ends_with_its_task() -> None:
    stream = Stream()
    task = asyncio.create_task(following("test", stream.connect)(asyncio.Event()))
    await asyncio.wait_for(stream.standing.wait(), 30)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert stream.cancelled
