"""Counters in Redis: a batch is one script call."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.limits.domain import MOST_EXACT
from services.limits.ports import Answer, Ask, Away, Charge, Count, Settled, Use, Verdict
from services.limits.tokens import Line, Reservation
from services.runtime.crashpoints import reach
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, Script, by_slot, node_of, run_ids

log = get_logger(__name__)
T = TypeVar("T")

_HERE = Path(__file__).parent
_KEPT_AFTER = 26 * 3_600_000
"""How long a day's counter outlives its day, so that late commits find it."""
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
        self._reserve = Script(client, (_HERE / "reserve.lua").read_text())
        self._commit = Script(client, (_HERE / "commit.lua").read_text())
        self._release = Script(client, (_HERE / "release.lua").read_text())
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
            keys.append(self._record(ask.tenant_id, ask.key))
            for line in ask.lines:
                keys += self._keys(ask.tenant_id, line)
            lines = [_sent(ask, line) for line in ask.lines]
            items.append((ask.key, ask.units, ask.ttl, ask.max_wait, lines))
        sent = _pack((self.now or 0, hold, epoch, items))
        call = partial(self._reserve, keys=keys, args=[sent, *(ask.body for ask in asks)])
        results = await self._call(asks[0].tenant_id, call)
        return [_answer(ask, result) for ask, result in zip(asks, results, strict=True)]

    async def commit(self, items: Sequence[Charge], *, epoch: int) -> list[Settled]:
        settled: list[Settled] = [Settled(False, ())] * len(items)

        async def group(indexes: Sequence[int]) -> None:
            some = [items[index] for index in indexes]
            for index, one in zip(indexes, await self._commit_group(some, epoch), strict=True):
                settled[index] = one

        groups = by_slot(self._client, range(len(items)), lambda index: self._tag(items[index][0].body.tenant_id))
        for outcome in await asyncio.gather(*map(group, groups), return_exceptions=True):
            if outcome is not None:
                raise outcome
        reach("limits.after_settle")
        return settled

    async def _commit_group(self, items: Sequence[Charge], epoch: int) -> list[Settled]:
        keys: list[bytes] = []
        sent = []
        for reservation, counts in items:
            body = reservation.body
            keys.append(self._record(body.tenant_id, body.key))
            for line in body.lines:
                keys += self._keys(body.tenant_id, line)
            lines = [(*counts[line.rule_id], line.ends + _KEPT_AFTER) if line.day else () for line in body.lines]
            sent.append((body.key, body.units, reservation.granted_at, lines))
        call = partial(self._commit, keys=keys, args=[_pack((epoch, sent))])
        results = await self._call(items[0][0].body.tenant_id, call)
        return [Settled(result[0] == 1, result[1:]) for result in results]

    async def release(self, reservation: Reservation) -> None:
        body = reservation.body
        keys = [self._record(body.tenant_id, body.key)]
        args: list[Any] = [body.key, body.units, reservation.granted_at, len(body.lines)]
        for line in body.lines:
            keys += self._keys(body.tenant_id, line)
            args += ("q" if line.is_quota else _kind(line), line.window, int(line.own_expiry), line.lasts)
        await self._call(body.tenant_id, partial(self._release, keys=keys, args=args))

    async def reset(self, tenant_id: str, line: Line, version: int, *, epoch: int) -> None:
        args = [version, epoch, line.ends + _KEPT_AFTER] if line.is_quota else []
        await self._call(tenant_id, partial(self._reset, keys=self._keys(tenant_id, line), args=args))

    async def run_id(self) -> str:
        return str(await self._call("", partial(run_ids, self._client)))

    def _tag(self, tenant_id: str) -> str:
        return f"{{{self._prefix}:limits:{tenant_id}}}"

    def _record(self, tenant_id: str, key: str) -> bytes:
        return f"{self._tag(tenant_id)}:r:{key}".encode()

    def _keys(self, tenant_id: str, line: Line) -> tuple[bytes, bytes]:
        # Windows of different lengths share nothing: the numbers of their buckets mean different times.
        period = line.day or f"{_kind(line)}{line.window}"
        name = f"{self._tag(tenant_id)}:c:{line.rule_id}:{period}:{line.value}".encode()
        return name, name + b":holds"

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


def _kind(line: Line) -> str:
    """A shadow rule lets everything through, so its exact log could grow without end."""
    return "e" if line.limit <= MOST_EXACT and not line.shadow else "b"


def _sent(ask: Ask, line: Line) -> tuple[object, ...]:
    """A line as reserve.lua takes it."""
    if line.day:
        load = ask.loads.get(ask.counter(line), _NOT_LOADED) if ask.loads else _NOT_LOADED
        return ("q", line.limit, line.shadow, load.used, load.version, line.ends + _KEPT_AFTER)
    return (_kind(line), line.limit, line.shadow, line.window, line.own_expiry, line.lasts)


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
    return Answer(verdict, wait, at, at + ask.ttl, ask.body, uses=uses)
