"""Gathers concurrent writes into batches, each of them one commit."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from parley_client.coalesce import Coalescer
from services.runtime import postgres
from services.runtime.postgres import retry_deadlocks

Req = TypeVar("Req")
Res = TypeVar("Res")

AWAY = (OSError, *postgres.AWAY)
"""PostgreSQL cannot be reached, or takes no work."""


def batched(
    write: Callable[[list[Req]], Awaitable[Sequence[Res | Exception]]], *, max_in_flight: int, gather: float = 0.0
) -> Coalescer[Req, Res]:
    """A coalescer whose batches are tried again when PostgreSQL chose them to end a deadlock.

    A batch that fails for another reason is written item by item, so that one bad item fails alone. While PostgreSQL is
    away the batch fails as a whole, since each item would only wait for PostgreSQL again.
    """

    async def send(items: list[Req]) -> Sequence[Res | Exception]:
        try:
            return await retry_deadlocks(lambda: write(items))
        except AWAY as error:
            return [error] * len(items)

    return Coalescer(send, max_in_flight=max_in_flight, gather=gather, isolate=True)
