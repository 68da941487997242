"""Counts, charges and holds in Postgres: the truth, and the counter while Redis is away."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from parley.limits.v1.limits_pb2 import ResetUsageRequest, ResetUsageResponse

from services.limits.domain import FailureMode
from services.limits.ports import Answer, Ask, Charged, Count, CounterKey, Use, Verdict
from services.limits.sql import sql
from services.limits.tokens import Line, Reservation, key_bytes
from services.runtime.crashpoints import reach
from services.runtime.idempotency import Requests
from services.runtime.postgres import retry_deadlocks, told_away

if TYPE_CHECKING:
    import asyncpg

    from services.runtime.postgres import Pool, PoolConnection


class PostgresLedger:
    """Implements `ports.Ledger`."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._requests = Requests("limits")

    async def used(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Count]:
        """The counts of those counters that have one."""
        with told_away():
            rows = await self._pool.fetch(sql("used"), *_columns(keys))
        return {_key(row): Count(row["used"], row["version"]) for row in rows}

    async def charge(self, reservations: Sequence[Reservation]) -> dict[str, Charged]:
        """Charges each reservation once, whenever and however often it comes; by reservation key."""
        lines = [(each.body, line) for each in reservations for line in each.body.lines if line.is_quota]
        columns = (
            [UUID(bytes=key_bytes(body.key)) for body, _ in lines],
            *_columns([CounterKey(body.tenant_id, line.rule_id, line.value, line.day) for body, line in lines]),
            [body.units for body, _ in lines],
        )
        reach("limits.before_charge")
        rows = await retry_deadlocks(lambda: self._pool.fetch(sql("charge"), *columns))
        reach("limits.after_charge")
        fresh: dict[UUID, bool] = {}
        counts: dict[UUID, dict[str, Count]] = defaultdict(dict)
        for key, rule_id, is_fresh, used, version in rows:
            fresh[key] = is_fresh
            counts[key][rule_id] = Count(used, version)
        charged = {}
        for each in reservations:
            key = UUID(bytes=key_bytes(each.body.key))
            charged[each.body.key] = Charged(fresh[key], counts[key])
        return charged

    async def reserve(self, asks: Sequence[Ask], now: int) -> list[Answer]:
        """Holds units here, as Redis would. All that is asked of one counter takes turns on its row's lock."""

        async def work() -> list[Answer]:
            async with self._pool.acquire() as conn, conn.transaction():
                book = await _open(conn, asks, now, lock=True)
                known = await _known_holds(conn, asks, now)
                answers = []
                rows: list[tuple[object, ...]] = []
                for ask in asks:
                    answer = known.get(ask.key) or book.decide(ask, now)
                    if answer.verdict is Verdict.GRANTED:
                        rows += book.take(ask, answer)
                        known[ask.key] = Answer(Verdict.REPLAYED, at=answer.at, expires=answer.expires, body=ask.body)
                    answer.uses = book.uses(ask)
                    answers.append(answer)
                if rows:
                    await conn.execute(sql("add_holds"), *map(list, zip(*rows, strict=True)))
                return answers

        with told_away():
            return await retry_deadlocks(work)

    async def peek(self, asks: Sequence[Ask], now: int) -> list[Answer]:
        """What `reserve` would answer."""
        with told_away():
            async with self._pool.acquire() as conn:
                book = await _open(conn, asks, now, lock=False)
        answers = [book.decide(ask, now) for ask in asks]
        for ask, answer in zip(asks, answers, strict=True):
            answer.uses = book.uses(ask)
        return answers

    async def drop_holds(self, keys: Sequence[str]) -> None:
        """Ends holds made here."""
        await self._pool.execute(sql("drop_holds"), [UUID(bytes=key_bytes(key)) for key in keys])

    async def reset(
        self, request: ResetUsageRequest, key: CounterKey | None, window: Callable[[], Awaitable[None]]
    ) -> int | None:
        """Sets a counter to zero and returns its new version, or resets a window and returns 0; None when the request
        came before.
        """
        version: int | None = None
        async with self._pool.acquire() as conn, conn.transaction():

            async def work() -> ResetUsageResponse:
                nonlocal version
                version = 0
                if key is None:
                    await window()
                else:
                    values = (key.tenant_id, key.rule_id, key.value, date.fromisoformat(key.day))
                    await conn.execute(sql("drop_holds_of"), *values)
                    version = int(await conn.fetchval(sql("reset"), *values))
                return ResetUsageResponse()

            await self._requests.once(conn, request, ResetUsageResponse, work, method="ResetUsage")
        return version

    async def tidy(self) -> None:
        """Forgets what nobody needs any more."""
        for name in ("tidy_charges", "tidy_counters", "tidy_holds"):
            await self._pool.execute(sql(name))
        await self._requests.tidy(self._pool)


class _Book:
    """The counters of a batch while its asks are decided one after the other."""

    def __init__(
        self, used: dict[CounterKey, int], held: dict[CounterKey, int], first_expiry: dict[CounterKey, int]
    ) -> None:
        self._used, self._held, self._first_expiry = used, held, first_expiry

    def decide(self, ask: Ask, now: int) -> Answer:
        for index, (line, key) in _counted(ask):
            used, held = self._used.get(key, 0), self._held.get(key, 0)
            if line.shadow or used + held + ask.units <= line.limit:
                continue
            waits_for_hold = held > 0 and used + ask.units <= line.limit
            retry = self._first_expiry[key] - now if waits_for_hold else 0
            return Answer(Verdict.REFUSED, refused_by=index, retry_after=retry)
        return Answer(Verdict.GRANTED, at=now, expires=now + ask.ttl, body=ask.body)

    def take(self, ask: Ask, answer: Answer) -> list[tuple[object, ...]]:
        """The rows of the holds."""
        rows: list[tuple[object, ...]] = []
        reservation = UUID(bytes=key_bytes(ask.key))
        for _, (line, key) in _counted(ask):
            self._held[key] = self._held.get(key, 0) + ask.units
            self._first_expiry[key] = min(self._first_expiry.get(key, answer.expires), answer.expires)
            day = date.fromisoformat(line.day)
            times = (_time(answer.at), _time(answer.expires))
            rows.append((reservation, ask.tenant_id, line.rule_id, line.value, day, ask.units, *times, ask.body))
        return rows

    def uses(self, ask: Ask) -> list[Use]:
        """Of every line; lines that are not counted here show nothing used."""
        counted = {index: key for index, (_, key) in _counted(ask)}
        return [
            Use(self._used.get(counted[index], 0) + self._held.get(counted[index], 0)) if index in counted else Use(0)
            for index in range(len(ask.lines))
        ]


def _counted(ask: Ask) -> list[tuple[int, tuple[Line, CounterKey]]]:
    return [
        (index, (line, ask.counter(line)))
        for index, (line, rule) in enumerate(zip(ask.lines, ask.rules, strict=True))
        if line.is_quota and rule.failure_mode is FailureMode.POSTGRES
    ]


async def _open(conn: "PoolConnection", asks: Sequence[Ask], now: int, *, lock: bool) -> _Book:
    columns = _columns(sorted({key for ask in asks for _, (_, key) in _counted(ask)}))
    counters = await conn.fetch(sql("lock_counters" if lock else "used"), *columns)
    holds = await conn.fetch(sql("open_holds"), *columns, _time(now))
    return _Book(
        {_key(row): row["used"] for row in counters},
        {_key(row): row["units"] for row in holds},
        {_key(row): _milliseconds(row["first_expiry"]) for row in holds},
    )


async def _known_holds(conn: "PoolConnection", asks: Sequence[Ask], now: int) -> dict[str, Answer]:
    by_id = {UUID(bytes=key_bytes(ask.key)): ask.key for ask in asks}
    rows = await conn.fetch(sql("known_holds"), list(by_id), _time(now))
    return {
        by_id[UUID(bytes=row["reservation_key"].bytes)]: Answer(
            Verdict.REPLAYED,
            at=_milliseconds(row["granted_at"]),
            expires=_milliseconds(row["expires_at"]),
            body=row["body"],
        )
        for row in rows
    }


def _columns(keys: Sequence[CounterKey]) -> tuple[list[str], list[str], list[str], list[date]]:
    return (
        [key.tenant_id for key in keys],
        [key.rule_id for key in keys],
        [key.value for key in keys],
        [date.fromisoformat(key.day) for key in keys],
    )


def _key(row: "asyncpg.Record") -> CounterKey:
    return CounterKey(row["tenant_id"], row["rule_id"], row["value"], row["day"].isoformat())


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
