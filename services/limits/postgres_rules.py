"""Rules in Postgres. Every change bumps the revision in its own transaction."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from services.kernel.errors import Kind, ParleyError, already_exists, not_found
from services.limits.domain import (
    MOST_RULES,
    DailyQuota,
    FailureMode,
    Override,
    Rule,
    Rules,
    Scope,
    Selector,
    SlidingWindow,
)
from services.limits.ports import Response, RuleChanges, State
from services.limits.sql import sql
from services.runtime.idempotency import Requests

if TYPE_CHECKING:
    import asyncpg

    from services.runtime.postgres import Pool, PoolConnection


class PostgresRules:
    """Implements `ports.RuleSource` and `ports.RuleStore`."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._requests = Requests("limits")

    async def state(self) -> State:
        row = await self._pool.fetchrow(sql("state"))
        assert row is not None
        return State(*row)

    async def bump_epoch(self) -> int:
        return int(await self._pool.fetchval(sql("bump_epoch")))

    async def meet_redis(self, run_id: str) -> None:
        await self._pool.execute(sql("meet_redis"), run_id)

    async def rules(self) -> Rules:
        rules = [_rule(row) for row in await self._pool.fetch(sql("rules"))]
        overrides = _overrides(await self._pool.fetch(sql("overrides")))
        zones = {row["tenant_id"]: row["time_zone"] for row in await self._pool.fetch(sql("zones"))}
        return Rules(rules, overrides, zones)

    async def store_zones(self, zones: Mapping[str, str]) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            if await conn.fetch(sql("store_zones"), *zip(*sorted(zones.items()), strict=True)):
                await conn.execute(sql("bump_revision"))

    async def list(self, tenant_id: str, after: str, limit: int) -> list[Rule]:
        """Rules that hold for a tenant, with its overrides, by id."""
        async with self._pool.acquire() as conn:
            rules = [_rule(row) for row in await conn.fetch(sql("list_rules"), tenant_id, after, limit)]
            return await _with_overrides(conn, tenant_id, rules)

    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[RuleChanges], Awaitable[Response]],
    ) -> Response:
        """Runs a change in one transaction with the memory of its request id."""
        async with self._pool.acquire() as conn, conn.transaction():

            async def change() -> Response:
                result = await work(PostgresRuleChanges(conn))
                await conn.execute(sql("bump_revision"))
                return result

            return await self._requests.once(conn, request, response, change, method=method)


class PostgresRuleChanges:
    """Implements `ports.RuleChanges`."""

    def __init__(self, conn: "PoolConnection") -> None:
        self._conn = conn

    async def get(self, tenant_id: str, rule_id: str) -> Rule:
        """A tenant's own rule. Raises RULE_NOT_FOUND."""
        return await self._one("rule", tenant_id, rule_id)

    async def effective(self, tenant_id: str, rule_id: str) -> Rule:
        """The rule that holds for a tenant, with its overrides. Raises RULE_NOT_FOUND."""
        return await self._one("rule_for", tenant_id, rule_id)

    async def create(self, rule: Rule) -> Rule:
        """Raises ALREADY_EXISTS, and IN_USE when the resource has as many rules as it may have."""
        await self._check_number(rule)
        row = await self._conn.fetchrow(sql("create_rule"), *_columns(rule))
        if row is None:
            raise already_exists("rule", rule.rule_id)
        return _rule(row)

    async def update(self, rule: Rule) -> Rule:
        await self._check_number(rule)
        row = await self._conn.fetchrow(sql("update_rule"), *_columns(rule))
        assert row is not None
        [changed] = await _with_overrides(self._conn, rule.tenant_id, [_rule(row)])
        return changed

    async def delete(self, tenant_id: str, rule_id: str) -> None:
        """With its overrides. Raises RULE_NOT_FOUND."""
        if await self._conn.fetchval(sql("delete_rule"), tenant_id, rule_id) is None:
            raise not_found("RULE_NOT_FOUND", "rule", "rule_id", rule_id)
        await self._conn.execute(sql("delete_overrides"), tenant_id, rule_id)

    async def set_override(self, tenant_id: str, rule_id: str, selector: Selector, override: Override) -> None:
        await self._conn.execute(sql("set_override"), tenant_id, rule_id, *selector, *override)

    async def delete_override(self, tenant_id: str, rule_id: str, selector: Selector) -> None:
        """Taking away what is not there is no failure: the answer is the same."""
        await self._conn.execute(sql("delete_override"), tenant_id, rule_id, *selector)

    async def _one(self, query: str, tenant_id: str, rule_id: str) -> Rule:
        row = await self._conn.fetchrow(sql(query), tenant_id, rule_id)
        if row is None:
            raise not_found("RULE_NOT_FOUND", "rule", "rule_id", rule_id)
        [rule] = await _with_overrides(self._conn, tenant_id, [_rule(row)])
        return rule

    async def _check_number(self, rule: Rule) -> None:
        others = await self._conn.fetchval(sql("count_rules"), rule.tenant_id, rule.resource, rule.rule_id)
        if others >= MOST_RULES:
            message = f"{rule.resource!r} has {MOST_RULES} rules already; delete one, or change one."
            raise ParleyError(Kind.PRECONDITION, "IN_USE", message, metadata={"id": rule.resource})


async def _with_overrides(conn: "PoolConnection", tenant_id: str, rules: Sequence[Rule]) -> list[Rule]:
    rows = await conn.fetch(sql("overrides_of"), tenant_id, [rule.rule_id for rule in rules])
    overrides = _overrides(rows)
    return [replace(rule, overrides=overrides.get((tenant_id, rule.rule_id), {})) for rule in rules]


def _columns(rule: Rule) -> tuple[object, ...]:
    match rule.algorithm:
        case DailyQuota(limit, time_zone):
            numbers: tuple[object, ...] = (limit, time_zone, None)
        case SlidingWindow(limit, window):
            numbers = (limit, None, window)
    key = (rule.tenant_id, rule.rule_id, rule.resource, rule.scope)
    return (*key, *numbers, rule.failure_mode, rule.shadow)


def _rule(row: "asyncpg.Record") -> Rule:
    limit = row["max_units"]
    quota = row["time_zone"] is not None
    return Rule(
        tenant_id=row["tenant_id"],
        rule_id=row["rule_id"],
        resource=row["resource"],
        scope=Scope(row["scope"]),
        algorithm=DailyQuota(limit, row["time_zone"]) if quota else SlidingWindow(limit, row["window_ms"]),
        failure_mode=FailureMode(row["failure_mode"]),
        shadow=row["shadow"],
        updated_at=row["updated_at"],
    )


def _overrides(rows: "Sequence[asyncpg.Record]") -> dict[tuple[str, str], dict[Selector, Override]]:
    found: dict[tuple[str, str], dict[Selector, Override]] = defaultdict(dict)
    for row in rows:
        selector = Selector(Scope(row["scope"]), row["selector_id"])
        found[row["tenant_id"], row["rule_id"]][selector] = Override(row["max_units"], row["window_ms"])
    return found
