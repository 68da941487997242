"""Counters in Redis: a batch is one script call."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.limits.domain import MOST_EXACT
from services.limits.ports import Answer, Ask, Away, Count, Settled, Use, Verdict
from services.limits.tokens import Line, Reservation
from services.runtime.crashpoints import reach
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client

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


class RedisCounters:
    """Implements `ports.Counters`.

    All keys share one hash tag, so that a script may touch any of them on a cluster too. After a failure Redis is left
    alone, for `pause` seconds in the end: then a call costs nothing while Redis is away, not its whole budget.
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
        self._prefix = f"{{{prefix}:limits}}"
        self._budget, self._pause = budget, pause
        self._away_until = 0.0
        self._failures = 0
        self.now = now
        self._reserve = client.register_script((_HERE / "reserve.lua").read_text())
        self._commit = client.register_script((_HERE / "commit.lua").read_text())
        self._release = client.register_script((_HERE / "release.lua").read_text())
        self._reset = client.register_script((_HERE / "reset.lua").read_text())

    async def reserve(self, asks: Sequence[Ask], *, hold: bool, epoch: int) -> list[Answer]:
        keys: list[bytes] = []
        items = []
        for ask in asks:
            keys.append(self._record(ask.tenant_id, ask.key))
            for line in ask.lines:
                keys += self._keys(ask.tenant_id, line)
            lines = [_sent(ask, line) for line in ask.lines]
            items.append((ask.key, ask.units, ask.ttl, ask.max_wait, lines))
        sent = _pack((self.now or 0, hold, epoch, items))
        results = await self._call(self._reserve(keys=keys, args=[sent, *(ask.body for ask in asks)]))
        reach("limits.after_reserve")
        return [_answer(ask, result) for ask, result in zip(asks, results, strict=True)]

    async def commit(self, items: Sequence[tuple[Reservation, Mapping[str, Count]]], *, epoch: int) -> list[Settled]:
        keys: list[bytes] = []
        sent = []
        for reservation, counts in items:
            body = reservation.body
            keys.append(self._record(body.tenant_id, body.key))
            for line in body.lines:
                keys += self._keys(body.tenant_id, line)
            lines = [(*counts[line.rule_id], line.ends + _KEPT_AFTER) if line.day else () for line in body.lines]
            sent.append((body.key, body.units, reservation.granted_at, lines))
        results = await self._call(self._commit(keys=keys, args=[_pack((epoch, sent))]))
        reach("limits.after_settle")
        return [Settled(result[0] == 1, result[1:]) for result in results]

    async def release(self, reservation: Reservation) -> None:
        body = reservation.body
        keys = [self._record(body.tenant_id, body.key)]
        args: list[Any] = [body.key, body.units, reservation.granted_at, len(body.lines)]
        for line in body.lines:
            keys += self._keys(body.tenant_id, line)
            args += ("q" if line.is_quota else _kind(line), line.window, int(line.own_expiry))
        await self._call(self._release(keys=keys, args=args))

    async def reset(self, tenant_id: str, line: Line, version: int, *, epoch: int) -> None:
        args = [version, epoch, line.ends + _KEPT_AFTER] if line.is_quota else []
        await self._call(self._reset(keys=self._keys(tenant_id, line), args=args))

    async def run_id(self) -> str:
        return str((await self._call(self._client.info("server")))["run_id"])

    def _record(self, tenant_id: str, key: str) -> bytes:
        return f"{self._prefix}:r:{tenant_id}:{key}".encode()

    def _keys(self, tenant_id: str, line: Line) -> tuple[bytes, bytes]:
        # Windows of different lengths share nothing: the numbers of their buckets mean different times.
        period = line.day or f"{_kind(line)}{line.window}"
        name = f"{self._prefix}:c:{tenant_id}:{line.rule_id}:{period}:{line.value}".encode()
        return name, name + b":holds"

    async def _call(self, call: Awaitable[T]) -> T:
        if time.monotonic() < self._away_until:
            if asyncio.iscoroutine(call):
                call.close()
            raise Away("Redis failed a moment ago")
        try:
            result = await self._within_budget(call)
        except (*_FAILURES, ResponseError) as error:
            if not isinstance(error, _FAILURES) and not str(error).startswith(_NOT_NOW):
                raise
            self._failures += 1
            self._away_until = time.monotonic() + min(self._pause, _FIRST_PAUSE * 2**self._failures)
            log.warning("redis is away", error=describe(error), failures=self._failures)
            raise Away(describe(error)) from None
        self._failures = 0
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
    return (_kind(line), line.limit, line.shadow, line.window, line.own_expiry)


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
