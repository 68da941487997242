"""Decides about calendar quotas and budgets by the counts of Postgres, while Redis is away."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.limits.domain.asks import Answer, Ask, CounterKey, Use, Verdict
from services.limits.domain.reservations import Hold
from services.limits.domain.rules import FailureMode


@dataclass(slots=True)
class Standing:
    """What Postgres knows of a batch's counters: units used, units held, and when the first hold of each expires."""

    used: dict[CounterKey, int]
    held: dict[CounterKey, int]
    first_expiry: dict[CounterKey, int]
    known: dict[str, Answer] = field(default_factory=dict)
    """Reservations of the batch that were made before, by their keys."""


def counted(ask: Ask) -> list[tuple[int, Hold, CounterKey]]:
    """The holds that Postgres counts while Redis is away, with their places among the ask's."""
    return [
        (index, hold, ask.counter(hold))
        for index, (hold, rule) in enumerate(zip(ask.holds, ask.rules, strict=True))
        if hold.is_counted_in_postgres and rule.failure_mode is FailureMode.POSTGRES
    ]


def decide(standing: Standing, asks: Sequence[Ask], now: int, *, hold: bool) -> list[Answer]:
    """Decides one after the other; with `hold`, later asks see what earlier ones took."""
    answers = []
    for ask in asks:
        answer = standing.known.get(ask.key) or _decide_one(standing, ask, now)
        if hold and answer.verdict is Verdict.GRANTED:
            _take(standing, ask, answer)
        answer.uses = _uses(standing, ask)
        answers.append(answer)
    return answers


def _take(standing: Standing, ask: Ask, answer: Answer) -> None:
    for _, hold, key in counted(ask):
        standing.held[key] = standing.held.get(key, 0) + hold.units
        standing.first_expiry[key] = min(standing.first_expiry.get(key, answer.expires), answer.expires)
    standing.known[ask.key] = Answer(Verdict.REPLAYED, at=answer.at, expires=answer.expires, body=ask.body)


def _decide_one(standing: Standing, ask: Ask, now: int) -> Answer:
    for index, hold, key in counted(ask):
        used, held = standing.used.get(key, 0), standing.held.get(key, 0)
        if hold.shadow or used + held + hold.units <= hold.limit:
            continue
        waits_for_hold = held > 0 and used + hold.units <= hold.limit
        retry = standing.first_expiry[key] - now if waits_for_hold else 0
        return Answer(Verdict.REFUSED, refused_by=index, retry_after=retry)
    return Answer(Verdict.GRANTED, at=now, expires=now + ask.request.ttl, body=ask.body)


def _uses(standing: Standing, ask: Ask) -> list[Use]:
    """Of every rule; those that Postgres does not count show nothing used."""
    uses = [Use(0)] * len(ask.holds)
    for index, _, key in counted(ask):
        uses[index] = Use(standing.used.get(key, 0) + standing.held.get(key, 0))
    return uses
