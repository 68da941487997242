"""Batches gather for a moment while there is company, and a lone call never waits."""

import asyncio
from collections.abc import Sequence

from parley_client.coalesce import COMPANY, Coalescer


class Sender:
    """Remembers the sizes of the batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        self.sizes.append(len(items))
        return items


GATHER = 1.0
"""Far longer than the turns of the loop take, also on a busy machine."""


async def turns_of_the_loop() -> None:
    """Those in which a call that does not wait has left; next to no time passes."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_after_a_batch_with_company_calls_wait_for_each_other() -> None:
    sender = Sender()
    coalescer: Coalescer[int, int] = Coalescer(sender, gather=GATHER)
    await asyncio.gather(*(coalescer.call(number) for number in range(COMPANY)))
    first = coalescer.submit(1)
    await turns_of_the_loop()
    assert sender.sizes == [COMPANY]
    second = coalescer.submit(2)
    assert (await first, await second) == (1, 2)
    assert sender.sizes == [COMPANY, 2]


async def test_a_call_after_a_small_batch_leaves_at_once() -> None:
    sender = Sender()
    coalescer: Coalescer[int, int] = Coalescer(sender, gather=GATHER)
    await coalescer.call(1)
    second = coalescer.submit(2)
    await turns_of_the_loop()
    assert sender.sizes == [1, 1]
    assert await second == 2


async def test_a_crowd_that_is_gone_delays_one_batch_only() -> None:
    sender = Sender()
    coalescer: Coalescer[int, int] = Coalescer(sender, gather=GATHER)
    await asyncio.gather(*(coalescer.call(number) for number in range(COMPANY)))
    await coalescer.call(1)
    second = coalescer.submit(2)
    await turns_of_the_loop()
    assert sender.sizes == [COMPANY, 1, 1]
    assert await second == 2
