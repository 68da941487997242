"""Whether calls of a channel may go out now: its breaker, and pauses that the provider asks for.

Kept in memory by each process: what one replica learns of a provider, another learns by its own calls.
"""

from services.kernel.breaker import Breaker, BreakerPolicy, Closed, admit, failed, succeeded


class Gate:
    """One channel's. All times are in seconds of one clock."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._breaker: Breaker = Closed()
        self._paused_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a call may go out, 0 for now; changes nothing."""
        return max(self._paused_until - now, admit(self._breaker, now, self._policy)[1], 0.0)

    def admit(self, now: float) -> float:
        """As `wait`; a 0 means that the call goes out, and is the probe if there is one to be made."""
        wait = self.wait(now)
        if wait == 0.0:
            self._breaker, wait = admit(self._breaker, now, self._policy)
        return wait

    def answered(self) -> bool:
        """The provider works. True when it has just recovered."""
        self._breaker, recovered = succeeded(self._breaker)
        return recovered

    def failed(self, now: float) -> None:
        """The provider or the network does not work."""
        self._breaker = failed(self._breaker, now, self._policy)

    def pause(self, until: float) -> None:
        """The provider wants no calls until then."""
        self._paused_until = max(self._paused_until, until)


class Gates:
    """A gate for each channel that has sent."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._gates: dict[int, Gate] = {}

    def of(self, channel_key: int) -> Gate:
        gate = self._gates.get(channel_key)
        if gate is None:
            gate = self._gates[channel_key] = Gate(self._policy)
        return gate

    def forget(self, channel_key: int) -> None:
        """The channel was changed or deleted: what was learnt of it no longer holds."""
        self._gates.pop(channel_key, None)
