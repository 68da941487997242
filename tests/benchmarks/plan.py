"""Which runs are made, in which order."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import machine, profile
from tests.benchmarks.crowd import Crowd, closed_load, open_load
from tests.benchmarks.database import durability
from tests.benchmarks.floor_run import LINES, floor
from tests.benchmarks.measure import Run, Subject, measure
from tests.benchmarks.rehearsal import rehearse
from tests.benchmarks.report import Report
from tests.benchmarks.script import WATER_ORDER, Script, Target
from tests.benchmarks.sink import Sink
from tests.benchmarks.stack import Stack, running, scratch
from tests.benchmarks.stages import break_down
from tests.benchmarks.tenant import TENANT, Operator
from tests.benchmarks.wire import Connections

TRACINGS: Mapping[str, Mapping[str, str]] = {
    "defaults": {},
    "all": {"PARLEY_TRACE_RATIO": "1.0", "PARLEY_TRACES_PER_SECOND": "0"},
    "tenth": {"PARLEY_TRACE_RATIO": "0.1", "PARLEY_TRACES_PER_SECOND": "0"},
}
"""What is traced, as environment of the stack: as it comes, every message, one in ten."""


@dataclass(frozen=True)
class Options:
    """What to run. Times in seconds, rates in messages a second."""

    seconds: float = 15.0
    people: int = 64
    rates: Sequence[float] = (100.0, 200.0, 400.0)
    channels: int = 4
    regulars: bool = False
    parts: frozenset[str] = frozenset({"floor", "closed", "open"})
    tracings: Sequence[str] = ("defaults", "all", "tenth")
    profiled: Sequence[str] = ()
    native: bool = False
    profiles: Path | None = None
    keep: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class Bench:
    """Makes the runs of some options, and keeps what they found in `report`."""

    def __init__(self, options: Options, console: Console) -> None:
        self.report = Report()
        self._options = options
        self._console = console
        self._sink = Sink()
        self._folder = Path()

    async def run(self) -> None:
        """All runs, one after the other."""
        with scratch(keep=self._options.keep) as self._folder:
            if self._options.keep:
                self._console.print(f"logs and data stay in {self._folder}", style="dim")
            self.report.machine = machine.describe(self._folder)
            async with self._sink.listening():
                if "floor" in self._options.parts:
                    await self._floor()
                if self._options.parts & {"closed", "open"}:
                    for tracing in self._options.tracings:
                        await self._mesh(tracing)

    async def _floor(self) -> None:
        folder = self._folder / "floor"
        folder.mkdir()
        self._console.print("floor: starting", style="dim")
        async with floor(folder, self._sink.url) as subject:
            self.report.durability = await durability(subject.subject.database_url)
            seat = Seat(subject.subject, [subject.target], Connections("127.0.0.1", subject.port))
            script = await rehearse(LINES, subject.target, self._sink, seat.connections, 0)
            self.report.floor = await self._closed("floor", seat, script, min(8.0, self._options.seconds))
            seat.connections.close()

    async def _mesh(self, tracing: str) -> None:
        home = self._folder / tracing
        home.mkdir()
        environment = {**TRACINGS[tracing], **self._options.environment}
        self._console.print(f"mesh, tracing {tracing}: starting", style="dim")
        async with AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(running(home, environment))
            operator = await stack.enter_async_context(Operator(mesh))
            self._console.print(f"mesh: healthy after {mesh.seconds_to_start:.1f} s", style="dim")
            self.report.durability = await durability(mesh.database_url)
            targets = await operator.set_up(self._options.channels, self._sink.url)
            host, _, port = mesh.address_of("edge").rpartition(":")
            seat = Seat(mesh.subject, targets, Connections(host, int(port)))
            stack.callback(seat.connections.close)
            script = await rehearse(WATER_ORDER, targets[0], self._sink, seat.connections, 0)
            seat.orders = 2
            await self._loads(tracing, seat, script, mesh, operator)

    async def _loads(self, tracing: str, seat: "Seat", script: Script, mesh: Stack, operator: Operator) -> None:
        options = self._options
        if "closed" in options.parts:
            name = f"closed {options.people}" + ("" if tracing == "defaults" else f", tracing {tracing}")
            profiling = self._profile(mesh) if tracing == options.tracings[0] else None
            run = await self._closed(name, seat, script, options.seconds)
            if profiling is not None:
                await profiling
            await self._finish(run, seat, operator)
        if "open" in options.parts and tracing == options.tracings[0]:
            for rate in options.rates:
                run = await self._open(f"open {rate:g}/s", seat, script, rate)
                await self._finish(run, seat, operator)

    async def _finish(self, run: Run, seat: "Seat", operator: Operator) -> None:
        """Check that nothing was lost, and read the traces."""
        seat.orders += run.tally.dialogs
        orders = await operator.count_orders()
        if orders != seat.orders:
            run.problems.append(f"{seat.orders} dialogs were completed, and there are {orders} orders")
            seat.orders = orders
        self.report.runs.append(run)
        self.report.breakdowns[run.name] = await break_down(operator.telemetry(), TENANT)

    async def _closed(self, name: str, seat: "Seat", script: Script, seconds: float) -> Run:
        crowd = self._crowd(seat, script)
        await seat.connections.warm(self._options.people)
        people = self._options.people
        return await self._measure(name, seat, crowd, lambda stop: closed_load(crowd, people, stop), seconds)

    async def _open(self, name: str, seat: "Seat", script: Script, rate: float) -> Run:
        crowd = self._crowd(seat, script)
        seconds = min(10.0, self._options.seconds)
        run = await self._measure(
            name, seat, crowd, lambda stop: open_load(crowd, rate, stop), seconds, limit=int(64 + 5 * rate)
        )
        run.offered_rate = rate
        return run

    def _crowd(self, seat: "Seat", script: Script) -> Crowd:
        crowd = Crowd(
            script,
            seat.targets,
            seat.connections,
            regulars=self._options.regulars,
            first_client=seat.first_client,
        )
        self._sink.on_message = crowd.replied
        return crowd

    async def _measure(
        self,
        name: str,
        seat: "Seat",
        crowd: Crowd,
        load: Callable[[asyncio.Event], Awaitable[None]],
        seconds: float,
        limit: int = 0,
    ) -> Run:
        gc.collect()
        gc.disable()  # nothing here makes cycles, and a pause would show in the latencies
        try:
            with Progress(console=self._console, transient=True, auto_refresh=False) as progress:
                bar = progress.add_task(name, total=1.0)
                run = await measure(
                    name,
                    seat.subject,
                    crowd,
                    load,
                    seconds=seconds,
                    limit=limit,
                    progress=lambda share: progress.update(bar, completed=share, refresh=True),
                )
        finally:
            gc.enable()
        seat.first_client = crowd.next_client
        if not run.settled:
            run.problems.append(f"{crowd.waiting} messages were not answered in the end")
        self._console.print(f"{name}: {run.rate:.0f} messages/s, {run.cpu_ms:.2f} ms CPU a message")
        return run

    def _profile(self, mesh: Stack) -> "asyncio.Task[None] | None":
        if not self._options.profiled:
            return None

        async def record() -> None:
            await asyncio.sleep(3.0)
            folder = self._options.profiles or self._folder
            profiles = await asyncio.gather(
                *(
                    profile.record(
                        name, mesh.pid_of(name), self._options.seconds - 2, folder, native=self._options.native
                    )
                    for name in self._options.profiled
                )
            )
            self.report.profiles = dict(zip(self._options.profiled, profiles, strict=True))

        return asyncio.create_task(record())


@dataclass
class Seat:
    """Where a crowd sits: what it talks to, and who has been there before."""

    subject: Subject
    targets: Sequence[Target]
    connections: Connections
    first_client: int = 2
    orders: int = 0


def save(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report.document(), ensure_ascii=False, indent=2) + "\n")
