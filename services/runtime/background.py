"""Loops that run beside a process's calls: work done again and again, looks at what others change, connections that
are followed.

Each has a name. It survives whatever its work raises, counts these faults, logs a series of them once, and ends when
its process is told to stop. An exception of a background task that is no such loop ends the process.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

FIRST_WITHIN = 10.0
"""Seconds after the start within which periodic work is done for the first time: a process that is restarted more often
than `every` would otherwise never do it."""
RETRY = 30.0
"""The longest time, in seconds, until work that failed is tried again."""
SPREAD = 0.1
"""The share by which a pause may be shorter or longer, so that replicas that started together drift apart."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
HEALTHY = 5.0
"""Seconds for which a connection has to stand before the pause after it is a short one again. Without this, one that
always breaks at once would be tried in a loop without pauses."""

Background = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, then finishes what it has. An exception ends the process, and its supervisor starts it
again."""
Connect = Callable[[Callable[[], None]], Awaitable[None]]
"""Follows until the connection breaks, and calls its argument once the connection stands."""


@dataclass
class Faults:
    """The faults of one loop. Of a series only the first is logged, and its end where `over` says how."""

    begin: str
    over: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    """What both log entries carry."""
    count: int = 0
    """Since the start."""
    lasting: bool = False

    def failed(self, error: BaseException | str) -> None:
        self.count += 1
        if not self.lasting:
            log.warning(self.begin, **self.fields, error=error if isinstance(error, str) else describe(error))
        self.lasting = True

    def succeeded(self, **fields: object) -> None:
        if self.lasting and self.over:
            log.info(self.over, **self.fields, **fields)
        self.lasting = False


@dataclass(frozen=True)
class Loop:
    """A `Background` with a name, whose faults are counted."""

    name: str
    run: Background
    faults: Faults

    async def __call__(self, stop: asyncio.Event) -> None:
        await self.run(stop)


def periodic(name: str, work: Callable[[], Awaitable[object]], *, every: float, soon: float | None = None) -> Loop:
    """Does its work soon after the start and then about every `every` seconds.

    While the work returns something true, more is to be done: the next run comes after `soon` seconds, where given.
    The work is idempotent, since replicas do it too, each in its own time.
    """

    def pause(more: object) -> float:
        return spread(every if soon is None or not more else soon, chance())

    faults = Faults("periodic work fails", "periodic work succeeds again", {"work": name})

    async def run(stop: asyncio.Event) -> None:
        first = first_pause(every, chance())
        await _repeat(stop, asyncio.Event(), work, faults, first, pause, lambda: spread(min(every, RETRY), chance()))

    return Loop(name, run, faults)


def nudged(
    name: str,
    look: Callable[[], Awaitable[object]],
    nudge: asyncio.Event,
    *,
    poll: Callable[[], float],
    failing: str,
) -> Loop:
    """Looks at what others may change: whenever `nudge` is set, and after `poll()` seconds without it, in case a nudge
    was lost. A series of failed looks is logged as `failing`.
    """
    faults = Faults(failing)

    async def run(stop: asyncio.Event) -> None:
        await _repeat(stop, nudge, look, faults, poll(), lambda _: poll(), poll)

    return Loop(name, run, faults)


def following(name: str, connect: Connect, *, longest: float = LONGEST_PAUSE) -> Loop:
    """Follows what another process tells, and connects again whenever that breaks, for whatever reason: a message that
    nobody understands must not end the process. Pauses between tries grow up to `longest` seconds.
    """
    faults = Faults("connection lost", "", {"to": name})

    async def run(stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        pause = 0.0
        try:
            while not stop.is_set():
                stood, broken = await _connection(connect, stopping)
                if stop.is_set():
                    return
                if stood:
                    faults.succeeded()
                faults.failed(broken or "it was closed")
                pause = next_pause(pause, stood, longest)
                await stopped(stop, pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
        finally:
            stopping.cancel()

    return Loop(name, run, faults)


async def _repeat(
    stop: asyncio.Event,
    nudge: asyncio.Event,
    work: Callable[[], Awaitable[object]],
    faults: Faults,
    first: float,
    pause: Callable[[object], float],
    retry: Callable[[], float],
) -> None:
    """Work until `stop` is set: after `first` seconds, then `pause(what the work returned)` or, after a fault,
    `retry()` later; at once when `nudge` is set."""
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: nudge.set())
    seconds = first
    try:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await nudge.wait()
            nudge.clear()
            if stop.is_set():
                return
            try:
                seconds = pause(await work())
                faults.succeeded()
            except Exception as error:
                faults.failed(error)
                seconds = retry()
    finally:
        stopping.cancel()


async def _connection(connect: Connect, stopping: "asyncio.Future[Any]") -> tuple[float, BaseException | None]:
    """One connection: the seconds for which it stood (0: never), and what broke it."""
    loop = asyncio.get_running_loop()
    stands: list[float] = []
    task: asyncio.Future[None] = asyncio.ensure_future(connect(lambda: stands.append(loop.time())))
    both: set[asyncio.Future[Any]] = {task, stopping}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return (loop.time() - stands[0] if stands else 0.0), outcome


def chance() -> float:
    """From 0 to 1."""
    return random.random()  # noqa: S311 - no secret


def first_pause(every: float, chance: float) -> float:
    """Seconds before the first run; `chance` is from 0 to 1. Work of every hour at 0.5: 5 s; of every 2 s: 1 s."""
    return min(every, FIRST_WITHIN) * chance


def spread(seconds: float, chance: float) -> float:
    """A pause of about so many seconds; `chance` is from 0 to 1. 600 at 0, 0.5 and 1: 540, 600 and 660 s."""
    return seconds * (1 + SPREAD * (2 * chance - 1))


def next_pause(before: float, stood: float, longest: float) -> float:
    """Seconds until the next try, after a pause of `before` (0: there was none) and a connection that stood for `stood`
    seconds: 0.1, 0.2, 0.4 ... up to `longest`, and 0.1 again after a connection that was healthy.
    """
    if not before or stood >= HEALTHY:
        return min(FIRST_PAUSE, longest)
    return min(2 * before, longest)


async def stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for so many seconds, or until `stop` is set; whether it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


def start(work: Background, stop: asyncio.Event, failed: "asyncio.Future[None]") -> "asyncio.Task[None]":
    """Run a background task; an exception of it is given to `failed`."""
    name = work.name if isinstance(work, Loop) else getattr(work, "__qualname__", repr(work))

    async def run() -> None:
        try:
            await work(stop)
        except Exception as error:
            log.critical("background task crashed", task=name, exc_info=error)
            if not failed.done():
                failed.set_exception(error)

    return asyncio.create_task(run(), name=name)


def faults(work: Iterable[Background]) -> dict[str, float]:
    """How many faults each loop has had."""
    return {each.name: each.faults.count for each in work if isinstance(each, Loop)}


async def finish(tasks: "Iterable[asyncio.Task[None]]", seconds: float) -> None:
    """Wait until tasks that were told to stop have ended; cancel those that take longer than so many seconds."""
    if not (tasks := set(tasks)):
        return
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        log.warning("background task did not stop in time", task=task.get_name())
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
