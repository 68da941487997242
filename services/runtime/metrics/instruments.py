"""Instruments declared as data, and the registry that reads them.

    LANES = Gauge("parley.dialog.lanes.running", "{lane}", "Lanes that this process works on.")
    metrics.watch(LANES, lambda: dispatcher.running)

`docs/reference/metrics.md` is made from the declarations.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation

from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

Reading = float | Mapping[str, float]
"""A number, or one for each value of the instrument's label."""
FRESH = 5.0
"""Seconds for which a store that was asked is not asked again."""
PATIENCE = 3.0
"""Seconds that a store has for its answer."""


@dataclass(frozen=True)
class Instrument:
    """Something that is measured. `unit` as OpenTelemetry writes it; `label` names what tells its readings apart."""

    name: str
    unit: str
    description: str
    label: str = ""


class Gauge(Instrument):
    """How much there is now."""


class Counter(Instrument):
    """How much there has been since the process started."""


CPU = Counter("parley.process.cpu", "s", "Processor time that the process has used.")
MEMORY = Gauge("parley.process.memory", "By", "Memory of the process that is in RAM.")
POOL = Gauge("parley.postgres.connections", "{connection}", "Connections to PostgreSQL, by `state`.", "state")
CHECKS = Gauge("parley.check.ok", "1", "1 for each `check` of what the service needs that passed last time, 0 for each "
               "that failed.", "check")  # fmt: skip
FAULTS = Counter("parley.background.faults", "{fault}", "Faults of the loops that run beside the calls.", "loop")


class Times:
    """How long something took each time, as integers: how many took at most how long. Adding one costs no more than a
    search in fourteen numbers and an addition, where a histogram of OpenTelemetry's SDK takes six microseconds."""

    BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 20.0, 60.0)
    """In seconds; the thresholds of alerts are among them."""
    LABELS = (*map(str, BOUNDS), "+Inf")

    def __init__(self) -> None:
        self._counts = [0] * len(self.LABELS)

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1

    def read(self) -> dict[str, float]:
        """For each bound how many took at most so long: what Prometheus's `histogram_quantile` takes as `le`."""
        return dict(zip(self.LABELS, accumulate(self._counts), strict=True))


class Metrics:
    """The registry of a process."""

    def __init__(self, meter: Meter | None = None) -> None:
        """Without a meter nothing is ever read."""
        self._meter = meter or NoOpMeterProvider().get_meter("parley")
        self._questions: list[Callable[[], Awaitable[object]]] = []
        self._asked_at = float("-inf")

    def watch(self, instrument: Gauge | Counter, read: Callable[[], Reading]) -> None:
        """Read the instrument by `read` from now on, which must be quick and may be called in another thread."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            reading = read()
            if isinstance(reading, Mapping):
                return [Observation(value, {instrument.label: key}) for key, value in reading.items()]
            return [Observation(reading)]

        create = (
            self._meter.create_observable_gauge
            if isinstance(instrument, Gauge)
            else self._meter.create_observable_counter
        )
        create(instrument.name, [observe], unit=instrument.unit, description=instrument.description)

    def ask_first(self, question: Callable[[], Awaitable[object]]) -> None:
        """Await this before the instruments are read, to learn what only a store knows."""
        self._questions.append(question)

    async def refresh(self) -> None:
        """Ask the stores, unless that was a moment ago. A question that fails is logged, and the last answer stays."""
        if time.monotonic() - self._asked_at < FRESH:
            return
        self._asked_at = time.monotonic()
        answers = await asyncio.gather(
            *(asyncio.wait_for(question(), PATIENCE) for question in self._questions), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, Exception):
                log.warning("a metric could not be read", error=describe(answer))


def watch_process(metrics: Metrics) -> None:
    """What every process measures of itself."""
    process = psutil.Process()
    metrics.watch(CPU, time.process_time)
    metrics.watch(MEMORY, lambda: process.memory_info().rss)
