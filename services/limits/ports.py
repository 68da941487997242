"""What the use cases need of Redis and of Postgres. Times are milliseconds since 1970, durations milliseconds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from google.protobuf.message import Message

from parley.limits.v1.limits_pb2 import ResetUsageRequest

from services.limits.domain.asks import Answer, Ask, Count, CounterKey
from services.limits.domain.reservations import Hold, Reservation
from services.limits.domain.rules import Override, Rule, Rules, Selector
from services.limits.domain.settlements import Charged, Settled, Settlement
from services.limits.domain.standing import Standing

Response = TypeVar("Response", bound=Message)


class Away(Exception):
    """Redis does not answer within its budget."""


class State(NamedTuple):
    """Grows with every change of rules; grows whenever Redis may know less than Postgres; the Redis that was met."""

    revision: int
    epoch: int
    redis_run_id: str


class Counters(Protocol):
    """Counts that are fast. Every call but `reserve` raises `Away`, and none takes longer than the budget."""

    async def reserve(self, asks: Sequence[Ask], *, hold: bool, epoch: int) -> list[Answer | None]:
        """None for an ask whose Redis is away."""

    async def commit(
        self, settlements: Sequence[Settlement], charged: Mapping[str, Charged], *, epoch: int
    ) -> list[Settled]:
        """`charged`: what Postgres has counted, by the keys of reservations."""

    async def release(self, reservation: Reservation) -> None: ...

    async def reset(self, tenant_id: str, hold: Hold, version: int, *, epoch: int) -> None: ...

    async def run_id(self) -> str: ...


class Ledger(Protocol):
    """Counts that last. Every call raises STORAGE_UNAVAILABLE."""

    async def used(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Count]:
        """The counts of those counters that have one."""

    async def charge(self, settlements: Sequence[Settlement]) -> dict[str, Charged]:
        """Charges each reservation once, whenever and however often it comes; by reservation key."""

    async def decide(self, asks: Sequence[Ask], now: int, work: Callable[[Standing], list[Answer]]) -> list[Answer]:
        """Holds what `work` grants. All that is asked of one counter takes turns."""

    async def standing(self, asks: Sequence[Ask], now: int) -> Standing: ...

    async def drop_holds(self, keys: Sequence[str]) -> None: ...

    async def reset(
        self, request: ResetUsageRequest, key: CounterKey | None, elsewhere: Callable[[], Awaitable[None]]
    ) -> int | None:
        """Sets a counter to zero and returns its new version; None when the request came before.

        What Postgres does not count has no `key`: it is reset by `elsewhere`, and the version is 0. When that fails,
        the request did not happen.
        """


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

    async def list(self, tenant_id: str, after: str, limit: int) -> tuple[list[Rule], str]:
        """A page of rules that hold for a tenant, and the id after which there are more; empty on the last page."""

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
