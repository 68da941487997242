"""People who talk at once, and the account of what became of each of their messages.

Callbacks, no coroutine a message: the crowd shares the cores with what it measures.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.benchmarks.script import Script, Target, client_number
from tests.benchmarks.wire import Connections

RESEND_AFTER = 1.0
"""Seconds until a message that was not answered with 200 is sent again, as the provider does."""


@dataclass
class Tally:
    """What happened. Times are in milliseconds, and only of the measured window."""

    sent: int = 0
    acknowledged: int = 0
    answered: int = 0
    dialogs: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """Answers to webhooks other than 200, by status; 0 is a lost connection."""
    duplicates_sent: int = 0
    wrong: list[str] = field(default_factory=list)
    """Replies that were not the ones expected there: out of order, twice, or another's."""
    ack_ms: "array[float]" = field(default_factory=lambda: array("d"))
    way_ms: "array[float]" = field(default_factory=lambda: array("d"))
    late_ms: "array[float]" = field(default_factory=lambda: array("d"))
    """How late arrivals of an open load left, against their schedule."""
    by_second: Counter[int] = field(default_factory=Counter)

    @property
    def unanswered(self) -> int:
        return self.acknowledged - self.answered


class Person:
    """One person in one dialog after the other."""

    __slots__ = ("acked", "client", "data", "got", "sent_at", "step", "target")

    def __init__(self, client: int, target: Target) -> None:
        self.client = client
        self.target = target
        self.step = 0
        self.data = b""
        self.sent_at = 0.0
        self.acked = False
        self.got = 0


class Crowd:
    """People by their number at the provider."""

    def __init__(
        self,
        script: Script,
        targets: Sequence[Target],
        connections: Connections,
        *,
        regulars: bool = False,
        first_client: int = 0,
    ) -> None:
        """`regulars`: the same people order again and again; otherwise each dialog is a new person's."""
        self.tally = Tally()
        self.measuring = False
        self.waiting = 0
        self.on_free: Callable[[Person], None] = lambda person: None
        self._script = script
        self._targets = targets
        self._connections = connections
        self._regulars = regulars
        self._people: dict[int, Person] = {}
        self._next_client = first_client
        self._next_message = time.time_ns() // 1000
        self._clock = time.perf_counter
        self._nobody_waits: asyncio.Event | None = None

    @property
    def next_client(self) -> int:
        """The index that the next newcomer would get."""
        return self._next_client

    def newcomer(self) -> Person:
        index = self._next_client
        self._next_client += 1
        person = Person(client_number(index), self._targets[index % len(self._targets)])
        self._people[person.client] = person
        return person

    def say(self, person: Person) -> None:
        """Let a person who is free say their next line."""
        self._next_message += 1
        person.data = person.target.request(self._script.hook(person.step, person.client, self._next_message))
        person.acked = False
        person.got = 0
        self.waiting += 1
        self.tally.sent += 1
        self._send(person)

    def _send(self, person: Person) -> None:
        person.sent_at = self._clock()
        self._connections.send(person.data, lambda status, body: self._acknowledged(person, status))

    def _acknowledged(self, person: Person, status: int) -> None:
        if status != 200:
            self.tally.refused[status] += 1
            asyncio.get_running_loop().call_later(RESEND_AFTER, self._send, person)
            return
        if self.measuring:
            self.tally.ack_ms.append((self._clock() - person.sent_at) * 1000)
        self.tally.acknowledged += 1
        person.acked = True
        if person.got == len(self._script.replies[person.step]):
            self._answered(person)

    def replied(self, client: int, text: str) -> None:
        """The provider was called."""
        person = self._people.get(client)
        if person is None:
            self.tally.wrong.append(f"{client}: unknown, or done: {text!r}")
            return
        expected = self._script.replies[person.step]
        if person.got >= len(expected) or not person.data:
            self.tally.wrong.append(f"{client}: one reply too many: {text!r}")
            return
        if not expected[person.got].matches(text, client):
            self.tally.wrong.append(f"{client}: step {person.step}, reply {person.got}: {text!r}")
        person.got += 1
        if person.got < len(expected):
            return
        now = self._clock()
        if self.measuring:
            self.tally.way_ms.append((now - person.sent_at) * 1000)
            self.tally.by_second[int(now)] += 1
        if person.acked:
            self._answered(person)

    def _answered(self, person: Person) -> None:
        self.tally.answered += 1
        self.waiting -= 1
        person.data = b""
        person.got = 0
        person.step += 1
        if person.step == len(self._script.lines):
            self.tally.dialogs += 1
            person.step = 0
            if not self._regulars:
                del self._people[person.client]
                person = self.newcomer()
        self.on_free(person)
        if self._nobody_waits is not None and not self.waiting:
            self._nobody_waits.set()

    async def settle(self, timeout: float) -> bool:
        """Wait until nobody waits any more, `timeout` seconds at most; whether that is so."""
        if self.waiting:
            self._nobody_waits = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nobody_waits.wait(), timeout)
        return not self.waiting


async def closed_load(crowd: Crowd, people: int, stop: asyncio.Event) -> None:
    """`people` talk at once: each says the next line as soon as the answer to the last one is delivered."""
    crowd.on_free = lambda person: None if stop.is_set() else crowd.say(person)
    for _ in range(people):
        crowd.say(crowd.newcomer())
    await stop.wait()


async def open_load(crowd: Crowd, rate: float, stop: asyncio.Event, *, seed: int = 1) -> None:
    """`rate` messages a second arrive at random times (Poisson), whether or not earlier ones are answered.

    Each is the next line of someone who has their answer, or the first of a newcomer when all others wait.
    """
    idle: list[Person] = []
    crowd.on_free = idle.append
    chance = random.Random(seed)
    due = time.perf_counter()
    while not stop.is_set():
        now = time.perf_counter()
        while due <= now:
            if crowd.measuring:
                crowd.tally.late_ms.append((now - due) * 1000)
            crowd.say(idle.pop(0) if idle else crowd.newcomer())
            due += chance.expovariate(rate)
        await asyncio.sleep(due - now)
