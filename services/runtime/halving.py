"""Finds the bad items of a batch with few calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

CALLS = 64
"""The most calls that one batch costs. One bad item among 512 costs 19."""


async def send_in_halves(
    parts: list[Sequence[T]],
    send: Callable[[Sequence[T]], Awaitable[object]],
    refusal: type[Exception],
    refused: Callable[[Sequence[T], Exception], None],
    *,
    calls: int = CALLS,
) -> None:
    """Sends parts of a batch. A part that raises `refusal` is sent again in halves, until the bad items are found.

    `refused` is called for each item that is refused alone, and each part that is still refused after that many calls.
    Any other exception is raised; `parts` then holds what is still to be sent, in order.
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
