"""Rules in Postgres. Every change bumps the revision in its own transaction."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.message import Message

from services.kernel.errors import Kind, ParleyError, already_exists, not_found
from services.limits.domain.algorithms.registry import ALGORITHMS
from services.limits.domain.rules import MOST_RULES, FailureMode, Override, Rule, Rules, Scope, Selector
from services.limits.ports import Response, RuleChanges, State
from services.limits.postgres.statements import sql
from services.runtime.idempotency import Requests
from services.runtime.logs import describe, get_logger

if TYPE_CHECKING:
    import asyncpg

    from services.runtime.postgres import Pool, PoolConnection


log = get_logger(__name__)


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
        rules = _readable(await self._pool.fetch(sql("rules")))
        overrides = _overrides(await self._pool.fetch(sql("overrides")))
        zones = {row["tenant_id"]: row["time_zone"] for row in await self._pool.fetch(sql("zones"))}
        return Rules(rules, overrides, zones)

    async def store_zones(self, zones: Mapping[str, str]) -> None:
        async with self._pool.acquire() as conn, conn.transaction():
            if await conn.fetch(sql("store_zones"), *zip(*sorted(zones.items()), strict=True)):
                await conn.execute(sql("bump_revision"))

    async def list(self, tenant_id: str, after: str, limit: int) -> tuple[list[Rule], str]:
        """A page of rules that hold for a tenant, with its overrides, and the id after which there are more."""
        async with self._pool.acquire() as conn:
            rows = await conn.fetch(sql("list_rules"), tenant_id, after, limit + 1)
            more_after = rows[limit - 1]["rule_id"] if len(rows) > limit else ""
            return await _with_overrides(conn, tenant_id, _readable(rows[:limit])), more_after

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
    """In the order of create_rule and update_rule."""
    algorithm = (rule.algorithm.kind, msgspec.json.encode(rule.algorithm).decode())
    return (rule.tenant_id, rule.rule_id, rule.resource, rule.scope, *algorithm, rule.failure_mode, rule.shadow)


def _readable(rows: "Iterable[asyncpg.Record]") -> list[Rule]:
    """The rules but for those that cannot be read, as a newer version may have written them: the others hold on."""
    rules = []
    for row in rows:
        try:
            rules.append(_rule(row))
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            key = {"tenant_id": row["tenant_id"], "rule_id": row["rule_id"]}
            log.error("a rule cannot be read and is left out", error=describe(error), **key)
    return rules


def _rule(row: "asyncpg.Record") -> Rule:
    """Raises KeyError, ValueError or MsgspecError when it cannot be read."""
    return Rule(
        tenant_id=row["tenant_id"],
        rule_id=row["rule_id"],
        resource=row["resource"],
        scope=Scope(row["scope"]),
        algorithm=msgspec.json.decode(row["parameters"], type=ALGORITHMS[row["algorithm"]]),
        failure_mode=FailureMode(row["failure_mode"]),
        shadow=row["shadow"],
        updated_at=row["updated_at"],
    )


def _overrides(rows: "Sequence[asyncpg.Record]") -> dict[tuple[str, str], dict[Selector, Override]]:
    found: dict[tuple[str, str], dict[Selector, Override]] = defaultdict(dict)
    for row in rows:
        selector = Selector(Scope(row["scope"]), row["selector_id"])
        found[row["tenant_id"], row["rule_id"]][selector] = Override(row["max_units"], row["length_ms"])
    return found
