"""Any order of calls on several replicas, beside a model: a budget, a concurrency limit and a token bucket at once."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.limits.domain.algorithms.calendar_quota import Budget
from services.limits.domain.algorithms.concurrency import Concurrency
from services.limits.domain.algorithms.token_bucket import TokenBucket
from services.limits.domain.periods import Period
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import NOON, Stores, stores
from tests.support.stores import every_redis

T = TypeVar("T")
BUDGET, TOGETHER, BURST = 100, 3, 5
REFILL = Fraction(1, 10)
"""Units a second."""
RULES = Rules(
    [
        Rule("*", "budget", "turn", Scope.CONTACT, Budget(BUDGET, "UTC", Period.WEEK, "tokens"), FailureMode.POSTGRES),
        Rule("*", "bucket", "turn", Scope.TENANT, TokenBucket(6, 60_000, BURST), FailureMode.OPEN),
        Rule("*", "together", "turn", Scope.TENANT, Concurrency(TOGETHER), FailureMode.OPEN),
    ]
)


@dataclass
class Known:
    """A reservation in the model. Times in seconds since the start."""

    request_id: str
    units: int
    estimate: int
    at: Fraction
    ends: Fraction
    id: str = ""
    held: bool = True
    committed: bool = False
    remembered: bool = True


class Machine(RuleBasedStateMachine):
    """`charged` is the truth of Postgres; `level` is what is missing in the bucket."""

    replicas: list[Stores]
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        tenant = f"t{uuid4().hex[:12]}"
        for each in self.replicas:
            each.time = NOON
            each.pass_time(0)
            each.tenant = tenant
        self.now, self.level = Fraction(0), Fraction(0)
        self.charged, self.count = 0, 0
        self.known: list[Known] = []

    # the model

    def open(self) -> list[Known]:
        return [each for each in self.known if each.held and each.ends > self.now]

    def give_back(self, each: Known, units: int) -> None:
        rest = units - (self.now - each.at) * REFILL
        self.level = max(Fraction(0), self.level - max(Fraction(0), rest))

    def agree(self, replica: Stores) -> None:
        used = self.run(replica.used())
        assert used == {
            "budget": self.charged + sum(each.estimate for each in self.open()),
            "together": sum(each.units for each in self.open()),
            "bucket": -(-self.level // 1),
        }

    # what happens, on any replica

    @rule(data=st.data(), units=st.integers(1, 2), estimate=st.integers(1, 60), ttl=st.sampled_from([20, 300]))
    def reserve(self, data: st.DataObject, units: int, estimate: int, ttl: int) -> None:
        replica = data.draw(st.sampled_from(self.replicas))
        fits = {
            "budget": self.charged + sum(each.estimate for each in self.open()) + estimate <= BUDGET,
            "together": sum(each.units for each in self.open()) + units <= TOGETHER,
            "bucket": self.level + units <= BURST,
        }
        self.count += 1
        new = Known(f"r{self.count}", units, estimate, self.now, self.now + ttl)
        answer = self.run(replica.reserve(new.request_id, units=units, ttl=ttl, amounts={"tokens": estimate}))
        assert answer.granted == all(fits.values())
        if answer.granted:
            new.id = answer.reservation_id
            self.level += units
            self.known.append(new)
        else:
            assert not fits[answer.refused_by]
            assert answer.retry_after.ToMilliseconds() > 0
        self.agree(replica)

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        replica, each = data.draw(st.sampled_from(self.replicas)), data.draw(st.sampled_from(self.open()))
        amounts = {"tokens": each.estimate}
        answer = self.run(replica.reserve(each.request_id, units=each.units, amounts=amounts))
        assert (answer.granted, answer.reservation_id) == (True, each.id)
        self.agree(replica)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), units=st.sampled_from([None, 0, 1, 4]), tokens=st.sampled_from([None, 0, 70]))
    def commit(self, data: st.DataObject, units: int | None, tokens: int | None) -> None:
        """Whether it is held, expired or released: what was really used is charged, once."""
        replica, each = data.draw(st.sampled_from(self.replicas)), data.draw(st.sampled_from(self.known))
        amounts = {} if tokens is None else {"tokens": tokens}
        answer = self.run(replica.commit(each.id, units=units, amounts=amounts))
        assert answer.replayed == each.committed
        if not each.committed:
            self.charged += each.estimate if tokens is None else tokens
            if each.remembered and each.ends > self.now and units is not None:
                if units > each.units:
                    self.level += units - each.units
                else:
                    self.give_back(each, each.units - units)
        each.committed, each.held = True, False
        self.agree(replica)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        replica, each = data.draw(st.sampled_from(self.replicas)), data.draw(st.sampled_from(self.known))
        self.run(replica.release(each.id))
        if not each.committed:
            if each.remembered and each.ends > self.now:
                self.give_back(each, each.units)
            each.held = each.remembered = False
        self.agree(replica)

    @rule(seconds=st.sampled_from([Fraction(1, 2), Fraction(10), Fraction(20), Fraction(300)]))
    def time_passes(self, seconds: Fraction) -> None:
        self.now += seconds
        self.level = max(Fraction(0), self.level - seconds * REFILL)
        for each in self.replicas:
            each.pass_time(float(seconds))
        self.agree(self.replicas[0])

    @rule()
    def redis_is_lost(self) -> None:
        """What was charged stays charged. Open holds are forgotten, and the bucket is full."""
        self.run(self.replicas[0].lose_redis())
        self.level = Fraction(0)
        for each in self.known:
            each.held = each.remembered = False
        self.agree(self.replicas[1])


@every_redis
def test_replicas_keep_the_limits_together(postgres_url: str, redis_url: str, redis_prefix: str) -> None:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    made = [
        loop.run_until_complete(stack.enter_async_context(stores(postgres_url, redis_url, redis_prefix, RULES)))
        for _ in range(3)
    ]
    machine = type("ReplicasMachine", (Machine,), {"replicas": made, "loop": loop})
    many = settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    try:
        run_state_machine_as_test(machine, settings=many)
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()
