"""What a reservation asks of the counters under all rules that match, and what becomes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from services.limits.domain.algorithms.base import Wanted
from services.limits.domain.periods import Calendar
from services.limits.domain.reservations import Body, Hold, encode_body, request_digest, reservation_key
from services.limits.domain.rules import Rule, Rules, Subject

TTL = 300_000
"""Milliseconds for which units are held without a Commit, unless the caller says otherwise."""


class CounterKey(NamedTuple):
    """The counter of one rule and subject in one calendar period; `day` is the period's first date (ISO)."""

    tenant_id: str
    rule_id: str
    value: str
    day: str


class Count(NamedTuple):
    """Units used, as Postgres counts; a reset makes a new version."""

    used: int
    version: int


ZERO = Count(0, 0)


class Request(NamedTuple):
    """What a caller asks for; durations in milliseconds. `units` 0 asks only what was used."""

    tenant_id: str
    resource: str
    subject: Subject
    units: int
    request_id: str = ""
    amounts: Mapping[str, int] = {}
    ttl: int = TTL
    max_wait: int = 0
    lasts: int = 0
    broadcast: bool = False

    def digest(self) -> bytes:
        """Tells requests with the same id but another content apart.

        A request without what came later has the digest that the version before gave it.
        """
        bot_id, channel_id, contact_id, conversation_id = self.subject
        subject = f"Subject(bot_id={bot_id!r}, channel_id={channel_id!r}, contact_id={contact_id!r})"
        added = [each for each in (conversation_id, sorted(self.amounts.items())) if each]
        return request_digest(f"({self.resource!r}, {subject}, {self.units!r})" + "".join(map(repr, added)))


@dataclass(slots=True)
class Ask:
    """A request with what it holds under each rule that matches. `loads`: counts that Redis missed."""

    request: Request
    key: str
    digest: bytes
    body: bytes
    rules: tuple[Rule, ...]
    holds: tuple[Hold, ...]
    loads: Mapping[CounterKey, Count] = field(default_factory=dict)

    @property
    def tenant_id(self) -> str:
        return self.request.tenant_id

    def counter(self, hold: Hold) -> CounterKey:
        return CounterKey(self.tenant_id, hold.rule_id, hold.value, hold.period)

    def counters(self) -> Iterator[CounterKey]:
        return (self.counter(hold) for hold in self.holds if hold.is_counted_in_postgres)


class Verdict(IntEnum):
    """What became of an ask; the numbers are those of reserve.lua."""

    GRANTED = 0
    REFUSED = 1
    MISSING = 2
    REPLAYED = 3


class Use(NamedTuple):
    """Units used or held under a rule, and when that changes where the rule has no calendar period."""

    used: int
    resets: int = 0


@dataclass(slots=True)
class Answer:
    """What was granted may be used `wait` after it was asked for. `refused_by` is an index of the ask's holds;
    `retry_after` 0 means at the end of the period.
    """

    verdict: Verdict
    wait: int = 0
    at: int = 0
    expires: int = 0
    body: bytes = b""
    refused_by: int = -1
    retry_after: int = 0
    uses: Sequence[Use] = ()


def ask_of(rules: Rules, calendar: Calendar, now: int, request: Request) -> Ask | None:
    """None when no rule matches. Raises INVALID_FIELD when the subject lacks what a rule counts by."""
    matching = rules.matching(request.tenant_id, request.resource)
    if not matching:
        return None
    if not request.units:
        matching = tuple(rule for rule in matching if request.subject.value(rule.scope))
    wanted = Wanted(now, request.ttl, request.lasts, request.units, request.amounts, calendar)
    holds = tuple(hold_of(rule, request.subject, wanted) for rule in matching)
    key, digest = reservation_key(request.tenant_id, request.request_id), request.digest()
    body = encode_body(Body(request.tenant_id, key, digest, request.units, holds))
    return Ask(request, key, digest, body, matching, holds)


def hold_of(rule: Rule, subject: Subject, wanted: Wanted) -> Hold:
    """What is held under one rule, after overrides. Raises INVALID_FIELD when the subject lacks what it counts by."""
    algorithm = rule.algorithm_for(subject)
    return algorithm.hold(rule.rule_id, rule.value_of(subject), rule.shadow, wanted)


def usage_asks(
    rules: Rules, calendar: Calendar, now: int, *, tenant_id: str, resource: str, subject: Subject
) -> list[Ask]:
    """One ask for nothing per resource that has rules for the subject; `resource` empty for all."""
    resources = {rule.resource for rule in rules.of(tenant_id).values()}
    wanted = sorted(resources & {resource} if resource else resources)
    asks = [ask_of(rules, calendar, now, Request(tenant_id, each, subject, 0)) for each in wanted]
    return [ask for ask in asks if ask is not None and ask.holds]
