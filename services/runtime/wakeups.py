"""Wakes other processes through Redis. A wake-up may get lost: whoever listens also looks by itself, now and then."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

GATHER = 0.005
"""Seconds between two publications of one process: what comes in between goes out together."""
_SEPARATOR = b"\n"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_QUIET = 1.0

Heard = Callable[[Sequence[str]], None]


class Wakeups:
    """One topic. Redis away neither blocks nor raises; after a time without it the listener is told of the gap."""

    def __init__(self, redis: Redis, prefix: str, topic: str) -> None:
        self._redis = redis
        self._channel = f"{prefix}:wake:{topic}".encode()
        self._waiting: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None

    def publish(self, item: str = "") -> None:
        """Wake the listeners and tell them `item` (without a line break). The same item is told once at a time."""
        self._waiting[item] = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            items, self._waiting = list(self._waiting), {}
            try:
                await self._redis.publish(self._channel, _SEPARATOR.join(item.encode() for item in items))
            except (RedisError, OSError) as error:
                log.debug("wake-up not sent", channel=self._channel.decode(), error=describe(error))
            await asyncio.sleep(GATHER)

    async def listen(self, stop: asyncio.Event, heard: Heard, on_gap: Callable[[], None] | None = None) -> None:
        """Call `heard` with the items of each publication until `stop` is set.

        `on_gap` is called each time when listening begins, also for the first time: publications before that were
        missed.
        """
        stopped = asyncio.ensure_future(stop.wait())
        pause = _FIRST_PAUSE
        away = False
        try:
            while not stop.is_set():
                listening = asyncio.ensure_future(self._listen(heard, on_gap))
                await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not listening.done():
                    listening.cancel()
                    with suppress(asyncio.CancelledError):
                        await listening
                    return
                heard_something, error = listening.result()
                if heard_something:
                    pause, away = _FIRST_PAUSE, False
                if not away:
                    log.warning("no wake-ups", channel=self._channel.decode(), error=describe(error))
                    away = True
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(stopped), pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            stopped.cancel()

    async def _listen(self, heard: Heard, on_gap: Callable[[], None] | None) -> tuple[bool, Exception]:
        """Listen until the connection breaks; whether it ever stood, and what broke it."""
        stood = False
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            while True:
                message = await pubsub.get_message(timeout=_QUIET)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    stood = True
                    if on_gap is not None:
                        on_gap()
                elif message["type"] == "message":
                    heard([item.decode() for item in message["data"].split(_SEPARATOR)])
        except (RedisError, OSError) as error:
            return stood, error
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]
