"""Counts, charges and holds in Postgres: the truth, and the counter while Redis is away."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from parley.limits.v1.limits_pb2 import ResetUsageRequest, ResetUsageResponse

from services.limits.domain.asks import Answer, Ask, Count, CounterKey, Verdict
from services.limits.domain.reservations import key_bytes
from services.limits.domain.settlements import Charged, Settlement
from services.limits.domain.standing import Standing, counted
from services.limits.postgres.statements import sql
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

    async def charge(self, settlements: Sequence[Settlement]) -> dict[str, Charged]:
        """Charges each reservation once, whenever and however often it comes; by reservation key."""
        lines = [
            (each.reservation.body, hold, each.used(hold))
            for each in settlements
            for hold in each.reservation.body.holds
            if hold.is_counted_in_postgres
        ]
        columns = (
            [_uuid(body.key) for body, _, _ in lines],
            *_columns([CounterKey(body.tenant_id, hold.rule_id, hold.value, hold.period) for body, hold, _ in lines]),
            [used for _, _, used in lines],
        )
        reach("limits.before_charge")
        rows = await retry_deadlocks(lambda: self._pool.fetch(sql("charge"), *columns))
        reach("limits.after_charge")
        fresh: dict[UUID, bool] = {}
        counts: dict[UUID, dict[str, Count]] = defaultdict(dict)
        for key, rule_id, is_fresh, used, version in rows:
            fresh[key] = is_fresh
            counts[key][rule_id] = Count(used, version)
        keys = {each.reservation.body.key for each in settlements}
        return {key: Charged(fresh[_uuid(key)], counts[_uuid(key)]) for key in keys}

    async def decide(self, asks: Sequence[Ask], now: int, work: Callable[[Standing], list[Answer]]) -> list[Answer]:
        """Holds here what `work` grants. All that is asked of one counter takes turns on its row's lock."""

        async def once() -> list[Answer]:
            async with self._pool.acquire() as conn, conn.transaction():
                standing = await _standing(conn, asks, now, lock=True)
                standing.known = await _known_holds(conn, asks, now)
                answers = work(standing)
                rows = [row for ask, answer in zip(asks, answers, strict=True) for row in _hold_rows(ask, answer)]
                if rows:
                    await conn.execute(sql("add_holds"), *map(list, zip(*rows, strict=True)))
                return answers

        with told_away():
            return await retry_deadlocks(once)

    async def standing(self, asks: Sequence[Ask], now: int) -> Standing:
        """What the counters of these asks hold now."""
        with told_away():
            async with self._pool.acquire() as conn:
                return await _standing(conn, asks, now, lock=False)

    async def drop_holds(self, keys: Sequence[str]) -> None:
        """Ends holds made here."""
        await self._pool.execute(sql("drop_holds"), [_uuid(key) for key in keys])

    async def reset(
        self, request: ResetUsageRequest, key: CounterKey | None, elsewhere: Callable[[], Awaitable[None]]
    ) -> int | None:
        version: int | None = None
        async with self._pool.acquire() as conn, conn.transaction():

            async def work() -> ResetUsageResponse:
                nonlocal version
                version = 0
                if key is None:
                    await elsewhere()
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


async def _standing(conn: "PoolConnection", asks: Sequence[Ask], now: int, *, lock: bool) -> Standing:
    columns = _columns(sorted({key for ask in asks for _, _, key in counted(ask)}))
    counters = await conn.fetch(sql("lock_counters" if lock else "used"), *columns)
    holds = await conn.fetch(sql("open_holds"), *columns, _time(now))
    return Standing(
        used={_key(row): row["used"] for row in counters},
        held={_key(row): row["units"] for row in holds},
        first_expiry={_key(row): _milliseconds(row["first_expiry"]) for row in holds},
    )


def _hold_rows(ask: Ask, answer: Answer) -> list[tuple[object, ...]]:
    """What a granted ask holds, in the order of add_holds."""
    if answer.verdict is not Verdict.GRANTED:
        return []
    times = (_time(answer.at), _time(answer.expires))
    return [
        (_uuid(ask.key), *key[:3], date.fromisoformat(key.day), hold.units, *times, ask.body)
        for _, hold, key in counted(ask)
    ]


async def _known_holds(conn: "PoolConnection", asks: Sequence[Ask], now: int) -> dict[str, Answer]:
    by_id = {_uuid(ask.key): ask.key for ask in asks}
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


def _uuid(key: str) -> UUID:
    return UUID(bytes=key_bytes(key))


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
