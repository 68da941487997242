"""Whether calls of a channel may go out now: its breaker, and pauses that the provider asks for.

Each process decides from its own memory and shares what it learns: a breaker that opens, a pause, a recovery. When an
open breaker's time is over, one call of one process finds out whether the provider works. Without the store, each
process goes by what it knows itself.
"""

import asyncio
from collections.abc import Callable

from services.delivery.domain.pauses import Pause, PausePolicy, limited
from services.delivery.usecases.ports import GateStore, Shut
from services.kernel.breaker import Breaker, BreakerPolicy, Closed, HalfOpen, Open, admit, failed, succeeded
from services.kernel.clock import Clock
from services.runtime.background import nudged
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

PATIENCE = 1.0
"""Seconds that the store may take; a call waits no longer for it."""
PAUSES = PausePolicy()
LOOK = 1.0
"""Seconds after which a process that may not make the probe asks again, if it hears nothing."""
MOST = 10_000
"""Troubled channels that a process remembers. It hears again of one that it forgot, if others know of it."""


class Gate:
    """One channel's. All times are in seconds of one clock."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._breaker: Breaker = Closed()
        self._pause = Pause()
        self.shared = False
        """Whether others know that something is amiss."""

    @property
    def closed(self) -> bool:
        """Whether nothing is amiss, or nothing yet."""
        return isinstance(self._breaker, Closed) and not self._pause.times

    @property
    def blank(self) -> bool:
        """Whether there is nothing to remember of the channel."""
        return self._breaker == Closed() and not self._pause.times and not self.shared

    @property
    def asks(self) -> bool:
        """Whether the next call is a probe."""
        return not isinstance(self._breaker, Closed)

    def wait(self, now: float) -> float:
        """Seconds until a call may go out, 0 for now; changes nothing."""
        return max(self._pause.until - now, admit(self._breaker, now, self._policy)[1], 0.0)

    def admit(self, now: float) -> float:
        """As `wait`; a 0 means that the call goes out, and is the probe if there is one to be made."""
        wait = self.wait(now)
        if wait == 0.0:
            self._breaker, wait = admit(self._breaker, now, self._policy)
        return wait

    def others_probe(self, now: float) -> float:
        """Another process finds out. Returns in how many seconds to look again."""
        if isinstance(self._breaker, Open | HalfOpen):
            self._breaker = Open(now + LOOK, self._breaker.times)
        return LOOK

    def answered(self) -> bool:
        """The provider works. True when it has just recovered."""
        self._breaker, recovered = succeeded(self._breaker)
        self._pause = Pause()
        return recovered

    def failed(self, now: float) -> bool:
        """The provider or the network does not work. True when that opens the breaker."""
        before, self._breaker = self._breaker, failed(self._breaker, now, self._policy)
        return isinstance(self._breaker, Open) and self._breaker is not before

    def limited(self, now: float, named: float | None) -> float:
        """The provider wants no calls for a while, `named` if it says for how long. Returns for how many seconds."""
        self._breaker, _ = succeeded(self._breaker)
        self._pause = limited(self._pause, now, named, PAUSES)
        return self._pause.until - now

    def shut(self, now: float) -> Shut | None:
        """As others should know it."""
        if self.closed:
            return None
        breaker = self._breaker
        opened = (None, 0) if isinstance(breaker, Closed) else (breaker.until - now, breaker.times)
        paused = (self._pause.until - now, self._pause.times) if self._pause.times else (None, 0)
        return Shut(*opened, *paused)

    def heard(self, shut: Shut | None, now: float) -> None:
        """What others know. The probe of this process decides for itself."""
        was_shared, self.shared = self.shared, shut is not None
        if not isinstance(self._breaker, HalfOpen):
            if shut is not None and shut.open_for is not None:
                self._breaker = Open(now + shut.open_for, shut.openings)
            elif was_shared and self.asks:
                self._breaker = Closed()
        if shut is not None and shut.paused_for is not None:
            self._pause = Pause(max(self._pause.until, now + shut.paused_for), shut.pauses)
        elif was_shared:
            self._pause = Pause()


class Gates:
    """A gate for each channel of which there is something to remember."""

    def __init__(
        self,
        policy: BreakerPolicy,
        store: GateStore,
        clock: Clock,
        *,
        told: Callable[[], None],
        poll: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`clock` should be steady: one that is set back keeps channels closed. `told` is called when something new is
        stored, for other processes to look. `poll`: seconds until `run` looks without being nudged, asked each time.
        """
        self._policy = policy
        self._store = store
        self._clock = clock
        self._told = told
        self._gates: dict[int, Gate] = {}
        self._news: dict[int, None] = {}
        self._written: dict[int, None] = {}
        self._touched: set[int] = set()
        self._telling: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()
        failing = "what other processes know of channels cannot be read"
        self._hearing = nudged("gates", self.refresh, self._nudged, poll=poll, failing=failing)

    def __len__(self) -> int:
        return len(self._gates)

    def of(self, channel_key: int) -> Gate:
        """To be changed; when there are too many, the one that was left alone the longest goes."""
        gate = self._gates.pop(channel_key) if channel_key in self._gates else Gate(self._policy)
        self._gates[channel_key] = gate
        if len(self._gates) > MOST:
            untold = {channel_key, *self._news, *self._written}
            self._gates.pop(next((key for key in self._gates if key not in untold), -1), None)
        return gate

    def forget(self, channel_key: int) -> None:
        """The channel was changed or deleted: what was learnt of it no longer holds."""
        self._gates.pop(channel_key, None)

    def wait(self, channel_key: int) -> float:
        """Seconds until a call may go out, 0 for now."""
        gate = self._gates.get(channel_key)
        return 0.0 if gate is None else gate.wait(self._now())

    def is_open(self, channel_key: int) -> bool:
        """Whether calls may go out now, none of them a probe."""
        gate = self._gates.get(channel_key)
        return gate is None or (not gate.asks and gate.wait(self._now()) == 0.0)

    async def admit(self, channel_key: int) -> float:
        """As `wait`; a 0 means that the call goes out. The probe of a channel is made by one process."""
        gate = self._gates.get(channel_key)
        if gate is None:
            return 0.0
        wait = gate.wait(self._now())
        if wait > 0 or not gate.asks:
            return wait
        try:
            async with asyncio.timeout(PATIENCE):
                mine = await self._store.probe(channel_key, self._policy.probe)
        except Exception as error:
            log.warning("nobody can be asked who probes a channel", error=describe(error))
            mine = True
        return gate.admit(self._now()) if mine else gate.others_probe(self._now())

    def answered(self, channel_key: int) -> bool:
        """The provider works. True when it has just recovered."""
        gate = self._gates.get(channel_key)
        if gate is None:
            return False
        if gate.closed and not gate.shared:
            self.forget(channel_key)
            return False
        recovered = gate.answered()
        self._share(channel_key)
        return recovered

    def failed(self, channel_key: int) -> None:
        """The provider or the network does not work."""
        if self.of(channel_key).failed(self._now()):
            self._share(channel_key)

    def limited(self, channel_key: int, named: float | None) -> float:
        """The provider wants no calls for a while. Returns for how many seconds."""
        wait = self.of(channel_key).limited(self._now(), named)
        self._share(channel_key)
        return wait

    def nudge(self) -> None:
        """Other processes may have learnt something."""
        self._nudged.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Hears what other processes have learnt until `stop` is set, when nudged and now and then."""
        await self._hearing(stop)
        await self.close()

    async def close(self) -> None:
        """WaitReasons until all is told."""
        if self._telling is not None:
            await self._telling

    async def refresh(self) -> None:
        """Hears what other processes have learnt."""
        self._touched = {*self._news, *self._written}
        known = await self._store.read()
        now = self._now()
        for key in known.keys() | self._gates.keys():
            if key not in self._touched:  # what this process tells just now is newer
                gate = self.of(key)
                gate.heard(known.get(key), now)
                if gate.blank:
                    self.forget(key)

    def _share(self, channel_key: int) -> None:
        self._news[channel_key] = None
        self._touched.add(channel_key)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while self._news:
            self._written, self._news = self._news, {}
            for key in self._written:
                gate = self.of(key)
                shut = gate.shut(self._now())
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._store.write(key, shut)
                    gate.shared = shut is not None
                except Exception as error:
                    log.warning("other processes cannot be told of a channel", error=describe(error))
            self._written = {}
            self._told()

    def _now(self) -> float:
        return self._clock.now().timestamp()
