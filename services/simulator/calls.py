"""The call log: the last calls that the stand-ins got, and counts of all."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

SHOWN_HEADERS = ("authorization", "traceparent", "user-agent", "idempotency-key")


@dataclass(slots=True)
class Call:
    """One call. Its body is kept as it came, and parsed when somebody looks."""

    id: int
    at: float
    """Unix seconds."""
    provider: str
    path: str
    client_id: str
    text: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    """HTTP status of the answer; 0 when there was none."""
    accepted: bool = False
    """Whether the stand-in took it. The person sees a message that was taken."""
    fault: str = ""
    message_id: int = 0

    def shown(self) -> dict[str, Any]:
        """As JSON values."""
        try:
            body = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            body = self.body.decode("utf-8", "replace")
        return {
            "id": self.id,
            "at": self.at,
            "provider": self.provider,
            "path": self.path,
            "client_id": self.client_id,
            "text": self.text,
            "status": self.status,
            "accepted": self.accepted,
            "fault": self.fault,
            "message_id": self.message_id,
            "headers": {name: self.headers[name] for name in SHOWN_HEADERS if name in self.headers},
            "body": body,
        }


@dataclass(frozen=True)
class Query:
    """Which calls to show; empty fields match all."""

    provider: str = ""
    client_id: str = ""
    since: int = 0
    """Only those with a greater id."""
    accepted: bool | None = None

    def matches(self, call: Call) -> bool:
        return (
            self.provider in ("", call.provider)
            and self.client_id in ("", call.client_id)
            and self.accepted in (None, call.accepted)
        )


class CallLog:
    """The last `size` calls in memory. Ids grow by one and are never used again."""

    def __init__(self, size: int, clock: Callable[[], float] = time.time) -> None:
        self._calls: deque[Call] = deque(maxlen=size)
        self._clock = clock
        self._watchers: set[asyncio.Event] = set()
        self.last_id = 0
        self.counts: Counter[str] = Counter()
        # Message ids go on growing over restarts, since what calls us may keep them.
        self._message_id = int(clock() * 1000)

    def next_message_id(self) -> int:
        """A number like a provider's."""
        self._message_id += 1
        return self._message_id

    def add(self, provider: str, path: str, client_id: str, text: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Adds a call. `settle` notes what becomes of it."""
        self.last_id += 1
        call = Call(self.last_id, self._clock(), provider, path, client_id, text, headers, body)
        self._calls.append(call)
        return call

    def settle(self, call: Call, status: int, *, accepted: bool, fault: str = "") -> None:
        """Notes what became of a call, and wakes those who wait for it."""
        call.status, call.accepted, call.fault = status, accepted, fault
        self.counts[f"{call.provider}.{'accepted' if accepted else 'failed'}"] += 1
        for watcher in self._watchers:
            watcher.set()

    def find(self, query: Query, limit: int) -> list[Call]:
        """The newest `limit` calls that match, oldest first."""
        found = []
        for call in self._newest_first(query.since):
            if query.matches(call):
                found.append(call)
                if len(found) == limit:
                    break
        return found[::-1]

    async def wait(self, query: Query, count: int, seconds: float) -> None:
        """Returns when so many calls match, or after so many seconds."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while len(self.find(query, count)) < count:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            self._watchers.discard(changed)

    def clear(self) -> int:
        """Removes all calls and counts, and returns how many calls there were."""
        count = len(self._calls)
        self._calls.clear()
        self.counts.clear()
        return count

    def __len__(self) -> int:
        return len(self._calls)

    def _newest_first(self, since: int) -> Iterator[Call]:
        for call in reversed(self._calls):
            if call.id <= since:
                return
            yield call
