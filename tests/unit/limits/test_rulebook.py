"""What a process knows of rules, and how far it believes Redis."""

from typing import Any

from services.limits.domain.rules import Rules
from services.limits.ports import Away, State
from services.limits.usecases.rulebook import RuleBook


class Source:
    """Postgres, in which another miss is written down while a look is under way."""

    def __init__(self) -> None:
        self.book: RuleBook | None = None
        self.epoch = 5

    async def state(self) -> State:
        return State(1, self.epoch, "")

    async def rules(self) -> Rules:
        assert self.book is not None
        self.epoch += 1
        await self.book.redis_missed()
        return Rules()

    async def bump_epoch(self) -> int:
        return self.epoch


class Counters:
    async def run_id(self) -> str:
        raise Away("it is away")


async def test_a_look_that_is_older_than_a_miss_does_not_take_it_back() -> None:
    source, counters = Source(), Counters()
    untyped: Any = source
    book = source.book = RuleBook(untyped, counters)  # type: ignore[arg-type]
    await book.refresh()
    assert book.epoch == source.epoch == 6
