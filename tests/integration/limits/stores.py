"""Use cases on real stores, with a clock that tests move and rules that tests give."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from google.protobuf.duration_pb2 import Duration

from parley.limits.v1 import limits_pb2 as pb

import services.limits
from services.limits.domain.reservations import ReservationIds
from services.limits.domain.rules import Rules
from services.limits.postgres.ledger import PostgresLedger
from services.limits.postgres.rules import PostgresRules
from services.limits.redis.counters import RedisCounters
from services.limits.usecases.limits import Limits
from services.limits.usecases.rulebook import RuleBook
from services.runtime.postgres import open_pool
from services.runtime.redis import Client, make_redis

MIGRATIONS = Path(next(iter(services.limits.__path__))) / "migrations"
NOON = datetime(2100, 3, 1, 12, tzinfo=UTC)
"""Later than the real time, or Redis would forget at once what ends today."""


class GivenRules(PostgresRules):
    """Rules of the test, everything else from Postgres."""

    given: Rules

    async def rules(self) -> Rules:
        return self.given


@dataclass
class Stores:
    """The use cases of one process, and what they stand on."""

    limits: Limits
    counters: RedisCounters
    book: RuleBook
    pool: "asyncpg.Pool[asyncpg.Record]"
    redis: Client
    prefix: str
    time: datetime = NOON
    tenant: str = "acme"

    def now(self) -> datetime:
        return self.time

    @property
    def milliseconds(self) -> int:
        return round(self.time.timestamp() * 1000)

    def pass_time(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.counters.now = self.milliseconds

    def give(self, rules: Rules) -> None:
        """These rules from now on."""
        self.book.rules = rules

    async def lose_redis(self) -> None:
        """All of it, as a Redis without a disk does."""
        async for key in self.redis.scan_iter(match=f"{{{self.prefix}:limits:*", count=1000):
            await self.redis.delete(key)

    async def reserve(
        self,
        request_id: str,
        *,
        contact: str = "anna",
        resource: str = "turn",
        units: int = 1,
        ttl: float = 300,
        max_wait: float = 0,
        lasts: float = 0,
        amounts: Mapping[str, int] | None = None,
        priority: "pb.Priority.ValueType" = pb.PRIORITY_UNSPECIFIED,
    ) -> pb.ReserveResponse:
        request = reserve_request(self.tenant, request_id, contact, resource, units, ttl, max_wait, lasts)
        request.amounts.extend(amounts_of(amounts or {}))
        request.priority = priority
        [result] = await self.limits.reserve([request])
        if isinstance(result, Exception):
            raise result
        return result

    async def commit(
        self, reservation_id: str, units: int | None = None, amounts: Mapping[str, int] | None = None
    ) -> pb.CommitResponse:
        request = pb.CommitRequest(
            tenant_id=self.tenant, reservation_id=reservation_id, units=units, amounts=amounts_of(amounts or {})
        )
        [result] = await self.limits.commit([request])
        if isinstance(result, Exception):
            raise result
        return result

    async def release(self, reservation_id: str) -> None:
        await self.limits.release(pb.ReleaseRequest(tenant_id=self.tenant, reservation_id=reservation_id))

    async def used(self, contact: str = "anna", resource: str = "turn") -> dict[str, int]:
        request = pb.GetUsageRequest(tenant_id=self.tenant, resource=resource, subject=subject_of(contact))
        return {status.rule_id: status.used for status in (await self.limits.usage(request)).statuses}


def amounts_of(amounts: Mapping[str, int]) -> list[pb.Amount]:
    return [pb.Amount(unit=unit, value=value) for unit, value in amounts.items()]


def subject_of(contact: str) -> pb.Subject:
    return pb.Subject(bot_id="bot", channel_id="channel", contact_id=contact)


def reserve_request(
    tenant_id: str, request_id: str, contact: str, resource: str, units: int, ttl: float, max_wait: float, lasts: float
) -> pb.ReserveRequest:
    return pb.ReserveRequest(
        tenant_id=tenant_id,
        request_id=request_id,
        resource=resource,
        subject=subject_of(contact),
        units=units,
        ttl=Duration(seconds=int(ttl)),
        max_wait=Duration(seconds=int(max_wait)),
        lasts=Duration(seconds=int(lasts), nanos=round(lasts % 1 * 1e9)),
    )


@asynccontextmanager
async def stores(postgres_url: str, redis_url: str, prefix: str, rules: Rules) -> AsyncIterator[Stores]:
    pool = await open_pool(postgres_url, name="test", schema="limits", migrations=MIGRATIONS, size=4)
    client = make_redis(redis_url, "test")
    counters = RedisCounters(client, prefix, budget=5)
    source = GivenRules(pool)
    source.given = rules
    book = RuleBook(source, counters)
    ledger = PostgresLedger(pool)
    made: Stores

    class Moved:
        def now(self) -> datetime:
            return made.now()

    limits = Limits(book, counters, ledger, ReservationIds(b"t" * 32), Moved())
    made = Stores(limits, counters, book, pool, client, prefix)
    made.pass_time(0)
    await book.refresh()
    try:
        yield made
    finally:
        await client.aclose()
        await pool.close()
