"""Brings what a turn makes to the caller who waits for it, in this process or, through Redis, in another one.

Nothing depends on its arriving: each process looks into the store as well, for all who wait in it at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

import msgspec
from cachetools import LRUCache

from services.dialog.domain.flows import Previews
from services.dialog.usecases.chat import (
    Delta,
    Done,
    Event,
    Reset,
    Waiter,
)
from services.runtime.background import nudged
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client
from services.runtime.wakeups import Wakeups

log = get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks into the store; more while publications are heard."""
Answered = Callable[[Collection[tuple[str, UUID]]], Awaitable[Collection[UUID]]]
"""Those of the messages, each by tenant and id, that are done."""

_KEPT = 1000
"""Events that wait for a slow caller; deltas beyond that are dropped."""


class _Item(msgspec.Struct, array_like=True, frozen=True):
    """An event on its way. `number` makes each item another one: the same item is told once at a time."""

    message_id: UUID
    kind: Literal["Delta", "Reset", "Done"]
    text: str
    number: int

    @property
    def event(self) -> Event:
        return Delta(self.text) if self.kind == "Delta" else Reset() if self.kind == "Reset" else Done()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Item).decode


class RedisChats:
    """Both ends: workers publish, callers hear."""

    def __init__(self, redis: Client, prefix: str, process: str, answered: Answered) -> None:
        self.process = process
        self._answered = answered
        self._missed = asyncio.Event()
        self._redis = redis
        self._prefix = prefix
        self._waiting: dict[UUID, list[_Queue]] = {}
        self._own = Wakeups(redis, prefix, f"chat:{process}")
        self._others: LRUCache[str, Wakeups] = LRUCache(_KEPT)
        self.listen = self._own.listen(self._heard, self._missed.set)
        """Hears from other processes' workers."""
        failing = "it cannot be told which chats are answered"
        self.look = nudged(
            "chats", self._look, self._missed, poll=lambda: self._own.patience(LOOK_EVERY), failing=failing
        )
        """Looks now and then which messages are done, in case the word of it got lost."""
        self._published = 0

    def previews(self, process: str, message_id: UUID) -> Previews:
        """Where the text of a message's reply goes while it is made."""
        return _Published(self, process, message_id) if process else _Silent()

    def done(self, process: str, message_id: UUID) -> None:
        self.publish(process, message_id, Done())

    def publish(self, process: str, message_id: UUID, event: Event) -> None:
        """Pass an event on to whoever waits here, and to the process that took the call."""
        self._put(message_id, event)
        if process != self.process:
            self._published += 1
            text = event.text if isinstance(event, Delta) else ""
            kind: Literal["Delta", "Reset", "Done"] = type(event).__name__  # type: ignore[assignment]
            self._to(process).publish(_encode(_Item(message_id, kind, text, self._published)).decode())

    @contextmanager
    def open(self, tenant_id: str, message_id: UUID) -> Iterator[Waiter]:
        """Hear of a message."""
        queue = _Queue(tenant_id)
        self._waiting.setdefault(message_id, []).append(queue)
        try:
            yield queue
        finally:
            queues = self._waiting[message_id]
            queues.remove(queue)
            if not queues:
                del self._waiting[message_id]

    async def _look(self) -> None:
        waiting = [(queues[0].tenant_id, message_id) for message_id, queues in self._waiting.items()]
        for message_id in await self._answered(waiting) if waiting else ():
            self._put(message_id, Done())

    def _heard(self, items: Sequence[str]) -> None:
        for item in items:
            try:
                told = _decode(item)
            except msgspec.DecodeError as error:
                log.error("an event of a chat cannot be read", error=describe(error))
                continue
            self._put(told.message_id, told.event)

    def _put(self, message_id: UUID, event: Event) -> None:
        for queue in self._waiting.get(message_id, ()):
            queue.put(event)

    def _to(self, process: str) -> Wakeups:
        if process not in self._others:
            self._others[process] = Wakeups(self._redis, self._prefix, f"chat:{process}")
        return self._others[process]


class _Queue:
    """Events of one message for one caller."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        if self._events.qsize() < _KEPT or isinstance(event, Done):
            self._events.put_nowait(event)

    async def next(self, timeout: float) -> Event | None:
        if not self._events.empty():
            return self._events.get_nowait()
        try:
            async with asyncio.timeout(timeout):
                return await self._events.get()
        except TimeoutError:
            return None


class _Published:
    """Previews for a caller who waits."""

    def __init__(self, chats: RedisChats, process: str, message_id: UUID) -> None:
        self._chats = chats
        self._process = process
        self._message_id = message_id

    async def delta(self, text: str) -> None:
        self._chats.publish(self._process, self._message_id, Delta(text))

    async def reset(self) -> None:
        self._chats.publish(self._process, self._message_id, Reset())


class _Silent:
    """Nobody waits."""

    async def delta(self, text: str) -> None:
        """Nobody hears it."""

    async def reset(self) -> None:
        """Nobody hears it."""
