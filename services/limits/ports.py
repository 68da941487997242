"""What the use cases need of Redis and of Postgres. Times are milliseconds since 1970, durations milliseconds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from google.protobuf.message import Message

from parley.limits.v1.limits_pb2 import ResetUsageRequest

from services.limits.domain import Override, Rule, Rules, Selector
from services.limits.tokens import Line, Reservation

Response = TypeVar("Response", bound=Message)


class Away(Exception):
    """Redis does not answer within its budget."""


class CounterKey(NamedTuple):
    """One day of one quota's counter; `day` is an ISO date."""

    tenant_id: str
    rule_id: str
    value: str
    day: str


class Count(NamedTuple):
    """Units used, as Postgres counts; a reset makes a new version."""

    used: int
    version: int


ZERO = Count(0, 0)


@dataclass(slots=True)
class Ask:
    """A reservation that is asked for, with the rules behind its lines. `loads`: counts that Redis missed."""

    tenant_id: str
    key: str
    digest: bytes
    body: bytes
    units: int
    ttl: int
    max_wait: int
    rules: tuple[Rule, ...]
    lines: tuple[Line, ...]
    loads: Mapping[CounterKey, Count] = field(default_factory=dict)

    def counter(self, line: Line) -> CounterKey:
        return CounterKey(self.tenant_id, line.rule_id, line.value, line.day)

    def counters(self) -> list[CounterKey]:
        return [self.counter(line) for line in self.lines if line.is_quota]


class Verdict(IntEnum):
    """What became of an ask; numbers as in reserve.lua."""

    GRANTED = 0
    REFUSED = 1
    MISSING = 2
    REPLAYED = 3


class Use(NamedTuple):
    """Units used or held on a line, and for a window when the next unit comes free."""

    used: int
    resets: int = 0


@dataclass(slots=True)
class Answer:
    """What was granted may be used `wait` after it was asked for. `refused_by` is an index of lines; `retry_after` 0
    means at the end of the day.
    """

    verdict: Verdict
    wait: int = 0
    at: int = 0
    expires: int = 0
    body: bytes = b""
    refused_by: int = -1
    retry_after: int = 0
    uses: Sequence[Use] = ()


class Charged(NamedTuple):
    """Whether a reservation was charged now, and the counts of its rules."""

    fresh: bool
    counts: Mapping[str, Count]


Charge: TypeAlias = "tuple[Reservation, Mapping[str, Count]]"
"""A reservation, and the counts of its rules after the charge."""


class Settled(NamedTuple):
    """Whether Redis knew of an earlier commit, and units used or held on each line; -1 for windows."""

    replayed: bool
    uses: Sequence[int]


class State(NamedTuple):
    """Grows with every change of rules; grows whenever Redis may know less than Postgres; the Redis that was met."""

    revision: int
    epoch: int
    redis_run_id: str


class Counters(Protocol):
    """Counts that are fast. Every call but `reserve` raises `Away`, and none takes longer than the budget."""

    async def reserve(self, asks: Sequence[Ask], *, hold: bool, epoch: int) -> list[Answer | None]:
        """None for an ask whose Redis is away."""

    async def commit(self, items: Sequence[Charge], *, epoch: int) -> list[Settled]: ...

    async def release(self, reservation: Reservation) -> None: ...

    async def reset(self, tenant_id: str, line: Line, version: int, *, epoch: int) -> None: ...

    async def run_id(self) -> str: ...


class Ledger(Protocol):
    """Counts that last. Every call raises STORAGE_UNAVAILABLE."""

    async def used(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Count]: ...

    async def charge(self, reservations: Sequence[Reservation]) -> dict[str, Charged]: ...

    async def reserve(self, asks: Sequence[Ask], now: int) -> list[Answer]: ...

    async def peek(self, asks: Sequence[Ask], now: int) -> list[Answer]: ...

    async def drop_holds(self, keys: Sequence[str]) -> None: ...

    async def reset(
        self, request: ResetUsageRequest, key: CounterKey | None, window: Callable[[], Awaitable[None]]
    ) -> int | None:
        """`window` resets what has no `key`; when it fails, the request did not happen."""


class RuleChanges(Protocol):
    """Changes of rules within one transaction. `get`, `effective` and `delete` raise RULE_NOT_FOUND."""

    async def get(self, tenant_id: str, rule_id: str) -> Rule: ...

    async def effective(self, tenant_id: str, rule_id: str) -> Rule: ...

    async def create(self, rule: Rule) -> Rule: ...

    async def update(self, rule: Rule) -> Rule: ...

    async def delete(self, tenant_id: str, rule_id: str) -> None: ...

    async def set_override(self, tenant_id: str, rule_id: str, selector: Selector, override: Override) -> None: ...

    async def delete_override(self, tenant_id: str, rule_id: str, selector: Selector) -> None: ...


class RuleStore(Protocol):
    """Where rules are changed and listed."""

    async def list(self, tenant_id: str, after: str, limit: int) -> list[Rule]: ...

    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[RuleChanges], Awaitable[Response]],
    ) -> Response: ...


class RuleSource(Protocol):
    """Rules as stored."""

    async def state(self) -> State: ...

    async def rules(self) -> Rules: ...

    async def store_zones(self, zones: Mapping[str, str]) -> None:
        """Remember the time zones of tenants, and bump the revision when one has changed."""

    async def bump_epoch(self) -> int: ...

    async def meet_redis(self, run_id: str) -> None: ...
