"""What becomes of a reservation that is asked for: Redis decides, or Postgres and the rules' failure modes."""

from collections.abc import Sequence
from dataclasses import replace

from services.kernel.errors import ParleyError
from services.limits.domain import FailureMode
from services.limits.ports import ZERO, Answer, Ask, Counters, Ledger, Use, Verdict
from services.limits.rulebook import RuleBook
from services.limits.tokens import Origin

RETRY_WHILE_AWAY = 1000
"""Milliseconds after which to ask again when a rule refuses because Redis is away."""


class Deciding:
    """Decides batches of asks."""

    def __init__(self, book: RuleBook, counters: Counters, ledger: Ledger) -> None:
        self._book = book
        self._counters = counters
        self._ledger = ledger

    async def decide(self, asks: Sequence[Ask], now: int, *, hold: bool) -> list[tuple[Answer | ParleyError, bool]]:
        """What becomes of each ask, and whether Redis has decided it. One that nobody can decide fails alone."""
        answers = await self._ask_redis(asks, hold=hold)
        away = [index for index, answer in enumerate(answers) if answer is None]
        decided = [(answer, True) for answer in answers if answer is not None]
        if not away:
            return decided
        self._book.poke()
        rest = iter(decided)
        alone = iter(await self._without_redis([asks[index] for index in away], now, hold=hold))
        return [(next(alone), False) if answer is None else next(rest) for answer in answers]

    async def _ask_redis(self, asks: Sequence[Ask], *, hold: bool) -> list[Answer | ParleyError | None]:
        """One call; a second one for asks whose counters Redis does not know, with the counts from Postgres."""
        epoch = self._book.epoch
        answers: list[Answer | ParleyError | None] = [*await self._counters.reserve(asks, hold=hold, epoch=epoch)]
        missing = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, Answer) and answer.verdict is Verdict.MISSING
        ]
        if not missing:
            return answers
        again: Sequence[Answer | ParleyError | None]
        try:
            loaded = await self._loaded([asks[index] for index in missing])
            again = await self._counters.reserve(loaded, hold=hold, epoch=epoch)
        except ParleyError as error:
            again = [error] * len(missing)
        for index, answer in zip(missing, again, strict=True):
            answers[index] = answer
        return answers

    async def _loaded(self, asks: Sequence[Ask]) -> list[Ask]:
        """The asks with what Postgres has counted. Raises STORAGE_UNAVAILABLE."""
        keys = sorted({key for ask in asks for key in ask.counters()})
        loads = dict.fromkeys(keys, ZERO) | await self._ledger.used(keys)
        return [replace(ask, loads=loads) for ask in asks]

    async def _without_redis(self, asks: Sequence[Ask], now: int, *, hold: bool) -> list[Answer | ParleyError]:
        """Each rule as its failure mode says."""
        answers: list[Answer | ParleyError] = [_closed(ask, now) or _open(ask, now) for ask in asks]
        counted = [
            index
            for index, (ask, answer) in enumerate(zip(asks, answers, strict=True))
            if isinstance(answer, Answer) and answer.verdict is Verdict.GRANTED and counts_in_postgres(ask)
        ]
        if counted:
            decide = self._ledger.reserve if hold else self._ledger.peek
            counts: Sequence[Answer | ParleyError]
            try:
                counts = await decide([asks[index] for index in counted], now)
            except ParleyError as error:
                counts = [error] * len(counted)
            for index, answer in zip(counted, counts, strict=True):
                answers[index] = answer
        return answers


def counts_in_postgres(ask: Ask) -> bool:
    """Whether Postgres counts for one of its rules while Redis is away."""
    return any(rule.failure_mode is FailureMode.POSTGRES for rule in ask.rules)


def origin(ask: Ask, by_redis: bool) -> Origin:
    """Who holds what was granted."""
    if by_redis:
        return Origin.REDIS
    return Origin.POSTGRES if counts_in_postgres(ask) else Origin.NOBODY


def _open(ask: Ask, now: int) -> Answer:
    """Granted while Redis is away: nobody holds it, but a quota is charged all the same when it is committed."""
    return Answer(Verdict.GRANTED, at=now, expires=now + ask.ttl, body=ask.body, uses=[Use(0, now)] * len(ask.lines))


def _closed(ask: Ask, now: int) -> Answer | None:
    """A refusal by a rule that allows nothing while Redis is away."""
    for index, rule in enumerate(ask.rules):
        if rule.failure_mode is FailureMode.CLOSED and not rule.shadow:
            uses = [Use(0, now)] * len(ask.lines)
            return Answer(Verdict.REFUSED, refused_by=index, retry_after=RETRY_WHILE_AWAY, uses=uses)
    return None
