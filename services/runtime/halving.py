"""Tells the bad items of a batch from the good ones, with few calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

CALLS = 64
"""Calls that one batch costs at most. One bad item among 512 costs 19."""


async def send_in_halves(
    parts: list[Sequence[T]],
    send: Callable[[Sequence[T]], Awaitable[object]],
    refusal: type[Exception],
    refused: Callable[[Sequence[T], Exception], None],
    *,
    calls: int = CALLS,
) -> None:
    """Send parts of a batch; one that raises `refusal` is sent again in halves, until what is bad stands alone.

    `refused` is told of what was refused for good: alone, or still after so many calls. Any other failure is raised,
    and then `parts` holds what is still to be sent, in its order.
    """
    while parts:
        part = parts[0]
        try:
            calls -= 1
            await send(part)
        except refusal as error:
            if len(part) > 1 and calls > 0:
                half = len(part) // 2
                parts[0:1] = [part[:half], part[half:]]
                continue
            refused(part, error)
        parts.pop(0)
