"""Any order of reserve, replay, commit, release, time and loss of Redis, beside a model that knows the rules."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.limits.domain.algorithms.calendar_quota import CalendarQuota
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.rules import FailureMode, Rule, Rules, Scope
from tests.integration.limits.stores import NOON, Stores, stores

T = TypeVar("T")
CONTACTS = ("anna", "boris")
DAY_LIMIT, TENANT_LIMIT, WINDOW_LIMIT = 6, 9, 4
WINDOW = 60


def given_rules(window_limit: int = WINDOW_LIMIT) -> Rules:
    def made(rule_id: str, scope: Scope, algorithm: CalendarQuota | SlidingWindow) -> Rule:
        mode = FailureMode.POSTGRES if isinstance(algorithm, CalendarQuota) else FailureMode.OPEN
        return Rule("*", rule_id, "turn", scope, algorithm, mode)

    return Rules(
        [
            made("day", Scope.CONTACT, CalendarQuota(DAY_LIMIT, "UTC")),
            made("tenant", Scope.TENANT, CalendarQuota(TENANT_LIMIT, "UTC")),
            made("window", Scope.CONTACT, SlidingWindow(window_limit, WINDOW * 1000)),
        ]
    )


@dataclass
class Known:
    """A reservation in the model. Times in seconds since the start."""

    request_id: str
    contact: str
    units: int
    ttl: int
    day: int
    at: float
    id: str = ""
    held: bool = True
    committed: bool = False


class Machine(RuleBasedStateMachine):
    """`used` is the truth of Postgres; `slots` are what the windows remember."""

    stores: Stores
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.stores.time = NOON
        self.stores.pass_time(0)
        self.stores.tenant = f"t{uuid4().hex[:12]}"
        self.now, self.day, self.count = 0.0, 0, 0
        self.used: dict[tuple[str, int], int] = {}
        self.known: list[Known] = []
        self.slots: list[Known] = []

    # the model

    def held(self, contact: str | None = None) -> int:
        return sum(
            each.units
            for each in self.known
            if each.held and each.day == self.day and each.at + each.ttl > self.now and contact in (None, each.contact)
        )

    def charged(self, contact: str | None = None) -> int:
        return sum(n for (who, day), n in self.used.items() if day == self.day and contact in (None, who))

    def earliest(self, contact: str, units: int) -> float | None:
        """By trying: the first moment after the last slot at which the window has room."""
        slots = [each for each in self.slots if each.contact == contact and self.in_window(each)]
        if units > WINDOW_LIMIT:
            return None
        start = max([self.now, *(each.at for each in slots)])
        for at in sorted({start, *(each.at + WINDOW for each in slots if each.at + WINDOW > start)}):
            if sum(each.units for each in slots if each.at > at - WINDOW) + units <= WINDOW_LIMIT:
                return at
        raise AssertionError("a window always has room in the end")

    def in_window(self, slot: Known) -> bool:
        expired = not slot.committed and slot.ttl < WINDOW and slot.at + slot.ttl <= self.now
        return slot.at > self.now - WINDOW and not expired

    def expected(self, contact: str, units: int, max_wait: int) -> float | None:
        if self.charged(contact) + self.held(contact) + units > DAY_LIMIT:
            return None
        if self.charged() + self.held() + units > TENANT_LIMIT:
            return None
        at = self.earliest(contact, units)
        return None if at is None or at - self.now > max_wait else at

    def agree(self, contact: str) -> None:
        used = self.run(self.stores.used(contact))
        slots = sum(each.units for each in self.slots if each.contact == contact and self.in_window(each))
        assert used == {
            "day": self.charged(contact) + self.held(contact),
            "tenant": self.charged() + self.held(),
            "window": slots,
        }

    # what happens

    @rule(
        contact=st.sampled_from(CONTACTS),
        units=st.integers(1, 3),
        ttl=st.sampled_from([40, 300]),
        max_wait=st.sampled_from([0, 20, 100]),
    )
    def reserve(self, contact: str, units: int, ttl: int, max_wait: int) -> None:
        at = self.expected(contact, units, max_wait)
        self.count += 1
        new = Known(f"r{self.count}", contact, units, ttl, self.day, at or 0.0)
        answer = self.run(self.stores.reserve(new.request_id, contact=contact, units=units, ttl=ttl, max_wait=max_wait))
        assert answer.granted == (at is not None)
        if at is not None:
            assert answer.wait.ToMilliseconds() == round((at - self.now) * 1000)
            new.id = answer.reservation_id
            self.known.append(new)
            self.slots.append(new)
        else:
            assert answer.refused_by
            assert answer.retry_after.ToMilliseconds() > 0
        self.agree(contact)

    @precondition(lambda self: any(each.held for each in self.known))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        alive = [each for each in self.known if each.held and each.at + each.ttl > self.now]
        if not alive:
            return
        each = data.draw(st.sampled_from(alive))
        answer = self.run(
            self.stores.reserve(each.request_id, contact=each.contact, units=each.units, ttl=each.ttl, max_wait=100)
        )
        assert (answer.granted, answer.reservation_id) == (True, each.id)
        self.agree(each.contact)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """Whether it is held, expired, released or committed already: charged once, on its own day."""
        each = data.draw(st.sampled_from(self.known))
        answer = self.run(self.stores.commit(each.id))
        assert answer.replayed == each.committed
        if not each.committed:
            key = (each.contact, each.day)
            self.used[key] = self.used.get(key, 0) + each.units
            if not self.in_window(each) and each in self.slots:
                self.slots.remove(each)
        each.committed, each.held = True, False
        self.agree(each.contact)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.known))
        self.run(self.stores.release(each.id))
        if not each.committed:
            each.held = False
            if each in self.slots:
                self.slots.remove(each)
        self.agree(each.contact)

    @rule(seconds=st.sampled_from([0.5, 15.0, 39.5, 60.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.stores.pass_time(seconds)
        for contact in CONTACTS:
            self.agree(contact)

    @rule()
    def a_day_passes(self) -> None:
        self.day += 1
        self.now += 86_400
        self.stores.pass_time(86_400)

    @rule()
    def redis_is_lost(self) -> None:
        """What was charged stays charged; open holds and windows are forgotten."""
        self.run(self.stores.lose_redis())
        for each in self.known:
            each.held = False
        self.slots.clear()
        for contact in CONTACTS:
            self.agree(contact)


def test_limits_keep_their_promises(postgres_url: str, redis_url: str, redis_prefix: str) -> None:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    opened = stores(postgres_url, redis_url, redis_prefix, given_rules())
    made = loop.run_until_complete(stack.enter_async_context(opened))
    machine = type("LimitsMachine", (Machine,), {"stores": made, "loop": loop})
    many = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    try:
        run_state_machine_as_test(machine, settings=many)
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()
