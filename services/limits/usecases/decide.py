"""Decides about reservations: Redis does it, or Postgres and the rules' failure modes while Redis is away."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from services.kernel.errors import ParleyError
from services.limits.domain import standing
from services.limits.domain.asks import ZERO, Answer, Ask, Use, Verdict
from services.limits.domain.reservations import Origin
from services.limits.domain.rules import FailureMode
from services.limits.ports import Counters, Ledger
from services.limits.usecases.rulebook import RuleBook

RETRY_WHILE_AWAY = 1000
"""Milliseconds after which to ask again when a rule refuses because Redis is away."""


class Decide:
    """Decides batches of asks."""

    def __init__(self, book: RuleBook, counters: Counters, ledger: Ledger) -> None:
        self._book = book
        self._counters = counters
        self._ledger = ledger

    async def __call__(self, asks: Sequence[Ask], now: int, *, hold: bool) -> list[tuple[Answer | ParleyError, bool]]:
        """What becomes of each ask, and whether Redis has decided it. One that nobody can decide fails alone."""
        answers = await self._by_redis(asks, hold=hold)
        away = [index for index, answer in enumerate(answers) if answer is None]
        decided = [(answer, True) for answer in answers if answer is not None]
        if not away:
            return decided
        self._book.poke()
        rest = iter(decided)
        alone = iter(await self._without_redis([asks[index] for index in away], now, hold=hold))
        return [(next(alone), False) if answer is None else next(rest) for answer in answers]

    async def _by_redis(self, asks: Sequence[Ask], *, hold: bool) -> list[Answer | ParleyError | None]:
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
        """Decides each rule as its failure mode says."""
        answers: list[Answer | ParleyError] = [_closed(ask, now) or _open(ask, now) for ask in asks]
        counted = [
            index
            for index, (ask, answer) in enumerate(zip(asks, answers, strict=True))
            if isinstance(answer, Answer) and answer.verdict is Verdict.GRANTED and standing.counted(ask)
        ]
        if counted:
            counts: Sequence[Answer | ParleyError]
            try:
                counts = await self._by_postgres([asks[index] for index in counted], now, hold=hold)
            except ParleyError as error:
                counts = [error] * len(counted)
            for index, answer in zip(counted, counts, strict=True):
                answers[index] = answer
        return answers

    async def _by_postgres(self, asks: Sequence[Ask], now: int, *, hold: bool) -> list[Answer]:
        work = partial(standing.decide, asks=asks, now=now, hold=hold)
        if hold:
            return await self._ledger.decide(asks, now, work)
        return work(await self._ledger.standing(asks, now))


def origin(ask: Ask, by_redis: bool) -> Origin:
    """Who holds what was granted."""
    if by_redis:
        return Origin.REDIS
    return Origin.POSTGRES if standing.counted(ask) else Origin.NOBODY


def _open(ask: Ask, now: int) -> Answer:
    """Granted while Redis is away: nobody holds it, but what Postgres keeps is charged when it is committed."""
    uses = [Use(0, now)] * len(ask.holds)
    return Answer(Verdict.GRANTED, at=now, expires=now + ask.request.ttl, body=ask.body, uses=uses)


def _closed(ask: Ask, now: int) -> Answer | None:
    """A refusal by a rule that allows nothing while Redis is away."""
    for index, rule in enumerate(ask.rules):
        if rule.failure_mode is FailureMode.CLOSED and not rule.shadow:
            uses = [Use(0, now)] * len(ask.holds)
            return Answer(Verdict.REFUSED, refused_by=index, retry_after=RETRY_WHILE_AWAY, uses=uses)
    return None
