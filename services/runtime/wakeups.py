"""Wakes other processes through Redis. Wake-ups may get lost, so whoever listens also looks now and then."""

import asyncio
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from services.runtime.background import Loop, following
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, hear

log = get_logger(__name__)

GATHER = 0.005
"""Seconds between two publications of one process. Wake-ups that come in between go out together."""
_SEPARATOR = b"\n"
QUIET = 15.0
"""Seconds of silence after which Redis is asked whether it is still there."""
CALM = 5.0
"""The factor by which a listener may wait longer between two looks of its own while publications are heard."""

Heard = Callable[[Sequence[str]], None]


class Wakeups:
    """One topic. While Redis is away nothing blocks or raises, and afterwards the listener is told of the gap."""

    def __init__(self, redis: Client, prefix: str, topic: str) -> None:
        self._redis = redis
        self._channel = f"{prefix}:wake:{topic}"
        self._name = f"wake-ups of {topic.partition(':')[0]}"  # what follows names a process
        self._waiting: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self.listening = False
        """Whether publications are heard now, as far as this process can tell."""

    def publish(self, item: str = "") -> None:
        """Wakes the listeners and passes `item` (without a line break) to them. Equal items that wait go out once."""
        self._waiting[item] = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            items, self._waiting = list(self._waiting), {}
            try:
                await self._redis.publish(self._channel, _SEPARATOR.join(item.encode() for item in items))
            except (RedisError, OSError) as error:
                log.debug("wake-up not sent", channel=self._channel, error=describe(error))
            await asyncio.sleep(GATHER)

    def patience(self, poll: float) -> float:
        """Returns the seconds until a listener should look by itself: `poll`, or more while publications are heard."""
        return poll * CALM if self.listening else poll

    def listen(self, heard: Heard, on_gap: Callable[[], None] | None = None) -> Loop:
        """A loop that calls `heard` with the items of each publication.

        `on_gap` is called whenever listening begins, the first time included: publications before that were missed.
        """
        return following(self._name, lambda stands: self._listen(heard, stands, on_gap))

    async def _listen(self, heard: Heard, stands: Callable[[], None], on_gap: Callable[[], None] | None) -> None:
        """Listens until the connection breaks."""

        def begun() -> None:
            stands()
            self.listening = True
            if on_gap is not None:
                on_gap()

        def ended() -> None:
            self.listening = False

        await hear(
            self._redis,
            self._channel,
            quiet=QUIET,
            stands=begun,
            heard=lambda data: self._hear(heard, data),
            ended=ended,
        )

    def _hear(self, heard: Heard, publication: bytes) -> None:
        """Passes a publication on. One that makes no sense is skipped: anybody can publish in a shared Redis."""
        try:
            heard([item.decode() for item in publication.split(_SEPARATOR)])
        except Exception as error:
            log.warning("a wake-up is not understood", channel=self._channel, error=describe(error))
