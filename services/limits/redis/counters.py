"""Counters in Redis: a batch is one script call."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.limits.domain.algorithms.registry import scripts
from services.limits.domain.asks import Answer, Ask, Count, Use, Verdict
from services.limits.domain.reservations import Hold, Reservation
from services.limits.domain.settlements import Charged, Settled, Settlement
from services.limits.ports import Away
from services.runtime.crashpoints import reach
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, Script, by_slot, node_of, run_ids

log = get_logger(__name__)
T = TypeVar("T")

_HERE = Path(__file__).parent
_KEPT_AFTER = 26 * 3_600_000
"""How long (ms) a counter outlives its calendar period, so that late commits find it."""
_SHORTEST_RECORD = 60_000
_FAILURES = (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError, OSError, TimeoutError)
_NOT_NOW = ("BUSY", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "UNKILLABLE")
"""How Redis begins to say that it cannot serve for a while. Any other answer that is an error is a fault of ours."""
_SLICES = 5
_FIRST_PAUSE = 0.01
_NOT_LOADED = Count(-1, 0)
_pack = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Absence:
    """How often in a row one Redis has failed, and until when it is left alone (`time.monotonic`)."""

    failures: int = 0
    until: float = 0.0


class RedisCounters:
    """Implements `ports.Counters`.

    All keys of a tenant share one hash tag, so that a script may touch any of them on a cluster too; there a batch is
    one script call for each slot that its tenants have. After a failure the Redis that failed is left alone, for
    `pause` seconds in the end: then a call costs nothing while it is away, not its whole budget.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        *,
        budget: float = 0.05,
        pause: float = 0.5,
        now: int | None = None,
    ) -> None:
        """`budget`: seconds that one call may take. `now`: a fixed time for tests; otherwise Redis's own clock."""
        self._client = client
        self._prefix = prefix
        self._budget, self._pause = budget, pause
        self._absences: defaultdict[str, Absence] = defaultdict(Absence)
        self.now = now
        counting = (_HERE / "shared.lua").read_text() + scripts()
        self._reserve = Script(client, counting + (_HERE / "reserve.lua").read_text())
        self._commit = Script(client, counting + (_HERE / "commit.lua").read_text())
        self._release = Script(client, counting + (_HERE / "release.lua").read_text())
        self._reset = Script(client, (_HERE / "reset.lua").read_text())

    async def reserve(self, asks: Sequence[Ask], *, hold: bool, epoch: int) -> list[Answer | None]:
        answers: list[Answer | None] = [None] * len(asks)

        async def group(indexes: Sequence[int]) -> None:
            some = [asks[index] for index in indexes]
            with suppress(Away):
                for index, answer in zip(indexes, await self._reserve_group(some, hold, epoch), strict=True):
                    answers[index] = answer

        groups = by_slot(self._client, range(len(asks)), lambda index: self._tag(asks[index].tenant_id))
        await asyncio.gather(*map(group, groups))
        reach("limits.after_reserve")
        return answers

    async def _reserve_group(self, asks: Sequence[Ask], hold: bool, epoch: int) -> list[Answer]:
        keys: list[bytes] = []
        items = []
        for ask in asks:
            keys += self._keys(ask.tenant_id, ask.key, ask.holds)
            holds = [_sent(each, each.units, ask.loads.get(ask.counter(each), _NOT_LOADED)) for each in ask.holds]
            request = ask.request
            items.append((ask.key, request.ttl, request.max_wait, request.broadcast, _record_life(ask), holds))
        call = partial(self._reserve, keys=keys, args=[self._sent(hold, epoch, items), *(ask.body for ask in asks)])
        results = await self._call(asks[0].tenant_id, call)
        return [_answer(ask, result) for ask, result in zip(asks, results, strict=True)]

    async def commit(
        self, settlements: Sequence[Settlement], charged: Mapping[str, Charged], *, epoch: int
    ) -> list[Settled]:
        settled: list[Settled] = [Settled(False, ())] * len(settlements)

        async def group(indexes: Sequence[int]) -> None:
            some = [settlements[index] for index in indexes]
            for index, one in zip(indexes, await self._commit_group(some, charged, epoch), strict=True):
                settled[index] = one

        def tag(index: int) -> str:
            return self._tag(settlements[index].reservation.body.tenant_id)

        groups = by_slot(self._client, range(len(settlements)), tag)
        for outcome in await asyncio.gather(*map(group, groups), return_exceptions=True):
            if outcome is not None:
                raise outcome
        reach("limits.after_settle")
        return settled

    async def _commit_group(
        self, settlements: Sequence[Settlement], charged: Mapping[str, Charged], epoch: int
    ) -> list[Settled]:
        keys: list[bytes] = []
        items = []
        for settlement in settlements:
            reservation, body = settlement.reservation, settlement.reservation.body
            keys += self._keys(body.tenant_id, body.key, body.holds)
            counts = charged[body.key].counts if body.key in charged else {}
            holds = [_sent(each, settlement.used(each), counts.get(each.rule_id, _NOT_LOADED)) for each in body.holds]
            items.append((body.key, reservation.granted_at, holds))
        call = partial(self._commit, keys=keys, args=[self._sent(False, epoch, items)])
        results = await self._call(settlements[0].reservation.body.tenant_id, call)
        return [Settled(result[0] == 1, tuple(result[1:])) for result in results]

    async def release(self, reservation: Reservation) -> None:
        body = reservation.body
        holds = [_sent(each, each.units, _NOT_LOADED) for each in body.holds]
        args = [self._sent(False, 0, [(body.key, reservation.granted_at, holds)])]
        keys = self._keys(body.tenant_id, body.key, body.holds)
        await self._call(body.tenant_id, partial(self._release, keys=keys, args=args))

    async def reset(self, tenant_id: str, hold: Hold, version: int, *, epoch: int) -> None:
        args = [version, epoch, hold.ends + _KEPT_AFTER] if hold.is_counted_in_postgres else []
        await self._call(tenant_id, partial(self._reset, keys=self._counter(tenant_id, hold), args=args))

    async def run_id(self) -> str:
        return str(await self._call("", partial(run_ids, self._client)))

    def _tag(self, tenant_id: str) -> str:
        return f"{{{self._prefix}:limits:{tenant_id}}}"

    def _keys(self, tenant_id: str, key: str, holds: Sequence[Hold]) -> list[bytes]:
        """The keys of a reservation, in the order in which the scripts read them."""
        record = f"{self._tag(tenant_id)}:r:{key}".encode()
        return [record, *chain.from_iterable(self._counter(tenant_id, hold) for hold in holds)]

    def _counter(self, tenant_id: str, hold: Hold) -> tuple[bytes, bytes]:
        name = f"{self._tag(tenant_id)}:c:{hold.rule_id}:{hold.counter_name}:{hold.value}".encode()
        return name, name + b":holds"

    def _sent(self, hold: bool, epoch: int, items: Sequence[object]) -> bytes:
        return _pack((self.now or 0, hold, epoch, items))

    async def _call(self, tenant_id: str, call: Callable[[], Awaitable[T]]) -> T:
        absence = self._absences[node_of(self._client, self._tag(tenant_id))]
        if time.monotonic() < absence.until:
            raise Away("Redis failed a moment ago")
        try:
            result = await self._within_budget(call())
        except (*_FAILURES, ResponseError) as error:
            if not isinstance(error, _FAILURES) and not str(error).startswith(_NOT_NOW):
                raise
            if time.monotonic() >= absence.until:  # of calls that fail together one counts
                absence.failures += 1
                absence.until = time.monotonic() + min(self._pause, _FIRST_PAUSE * 2 ** min(absence.failures, 10))
                log.warning("redis is away", error=describe(error), failures=absence.failures)
            raise Away(describe(error)) from None
        absence.failures = 0
        return result

    async def _within_budget(self, call: Awaitable[T]) -> T:
        """Waits in slices: when this process stalls, it loses one of them and not the whole budget, so that its own
        delay is not taken for one of Redis.
        """
        task = asyncio.ensure_future(call)
        try:
            for _ in range(_SLICES):
                await asyncio.wait({task}, timeout=self._budget / _SLICES)
                if task.done():
                    return task.result()
            raise TimeoutError(f"no answer within {self._budget} s")
        finally:
            task.cancel()


def _sent(hold: Hold, used: int, count: Count) -> tuple[object, ...]:
    """A hold as shared.lua reads it."""
    return (
        hold.counter,
        hold.limit,
        hold.shadow,
        hold.units,
        used,
        hold.length,
        hold.own_expiry,
        hold.lasts,
        hold.ends + _KEPT_AFTER,
        hold.parameters,
        *count,
    )


def _record_life(ask: Ask) -> int:
    """For how long (ms) a record is of use after the grant. Once every rate has forgotten the units before the
    reservation ends, nothing is left to settle: providers' slots, one per call, would fill the memory.
    """
    ttl = ask.request.ttl
    if any(hold.own_expiry or not rule.algorithm.is_rate for hold, rule in zip(ask.holds, ask.rules, strict=True)):
        return ttl
    return min(ttl, max(_SHORTEST_RECORD, *(hold.length + hold.lasts for hold in ask.holds)))


def _answer(ask: Ask, result: Sequence[Any]) -> Answer:
    verdict = Verdict(result[0])
    if verdict is Verdict.MISSING:
        return Answer(verdict)
    _, wait, at, record, refusing, retry_after = result[:6]
    uses = [Use(result[n], result[n + 1]) for n in range(6, len(result), 2)]
    if verdict is Verdict.REPLAYED:
        _, expires, body = record.split(b":", 2)
        return Answer(verdict, wait, at, int(expires), body, uses=uses)
    if verdict is Verdict.REFUSED:
        return Answer(verdict, refused_by=refusing - 1, retry_after=retry_after, uses=uses)
    return Answer(verdict, wait, at, at + ask.request.ttl, ask.body, uses=uses)
