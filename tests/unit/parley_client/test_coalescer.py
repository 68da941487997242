import asyncio
from collections.abc import Sequence
from time import monotonic

import pytest

from parley_client.coalesce import Coalescer
from tests.unit.parley_client.conftest import until


class Sink:
    """Answers batches with their items doubled, when told to."""

    def __init__(self, *, answers: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.bad: set[int] = set()
        if answers:
            self.gate.set()

    async def send(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        await self.gate.wait()
        if self.bad & set(items):
            raise ValueError("bad item")
        return [item * 2 for item in items]

    async def sent(self, count: int) -> None:
        await until(lambda: len(self.batches) >= count)


async def test_calls_of_one_moment_leave_together() -> None:
    sink = Sink()
    coalescer = Coalescer(sink.send)
    assert await asyncio.gather(*(coalescer.call(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert sink.batches == [[0, 1, 2, 3, 4]]


async def test_arrivals_wait_for_the_batch_under_way_and_leave_together() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, patience=60)
    first = asyncio.ensure_future(coalescer.call(1))
    await sink.sent(1)
    rest = [asyncio.ensure_future(coalescer.call(n)) for n in (2, 3)]
    await asyncio.sleep(0.01)
    assert sink.batches == [[1]]
    sink.gate.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6]
    assert sink.batches == [[1], [2, 3]]


async def test_a_slow_batch_delays_the_next_by_its_patience_only() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, patience=0.01, max_in_flight=2)
    calls = [asyncio.ensure_future(coalescer.call(1))]
    await sink.sent(1)
    calls.append(asyncio.ensure_future(coalescer.call(2)))
    await sink.sent(2)
    calls.append(asyncio.ensure_future(coalescer.call(3)))
    await asyncio.sleep(0.05)
    assert sink.batches == [[1], [2]], "no more than max_in_flight are under way"
    sink.gate.set()
    assert await asyncio.gather(*calls) == [2, 4, 6]


async def test_a_full_batch_does_not_wait() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, max_items=2, patience=60)
    calls = [asyncio.ensure_future(coalescer.call(n)) for n in range(5)]
    await sink.sent(3)
    assert sink.batches == [[0, 1], [2, 3], [4]]
    calls += [asyncio.ensure_future(coalescer.call(n)) for n in (5, 6)]
    await sink.sent(4)
    sink.gate.set()
    await asyncio.gather(*calls)


async def test_an_exception_of_one_item_is_its_own() -> None:
    async def send(items: list[int]) -> Sequence[int | Exception]:
        return [KeyError(item) if item == 2 else item for item in items]

    results = await asyncio.gather(*map(Coalescer(send).call, (1, 2, 3)), return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], KeyError)
    assert results[2] == 3


async def test_a_batch_that_fails_fails_all_its_items() -> None:
    sink = Sink()
    sink.bad = {2}
    results = await asyncio.gather(*map(Coalescer(sink.send).call, (1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert len(sink.batches) == 1


async def test_an_isolating_coalescer_lets_the_bad_item_fail_alone() -> None:
    sink = Sink()
    sink.bad = {2}
    results = await asyncio.gather(*map(Coalescer(sink.send, isolate=True).call, (1, 2, 3)), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert results[2] == 6
    assert sink.batches == [[1, 2, 3], [1], [2], [3]]


async def test_a_missing_result_is_an_error_of_every_item() -> None:
    async def send(items: list[int]) -> Sequence[int | Exception]:
        return items[:-1]

    results = await asyncio.gather(*map(Coalescer(send).call, (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError] * 2


async def test_a_cancelled_caller_does_not_cancel_the_batch() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send)
    first, second = (asyncio.ensure_future(coalescer.call(n)) for n in (1, 2))
    await sink.sent(1)
    first.cancel()
    sink.gate.set()
    assert await second == 4
    assert first.cancelled()


async def test_a_caller_cancelled_while_waiting_is_not_sent() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, patience=1)
    first, second, third = (asyncio.ensure_future(coalescer.call(n)) for n in (1, 2, 3))
    await sink.sent(1)
    fourth, fifth = (asyncio.ensure_future(coalescer.call(n)) for n in (4, 5))
    await asyncio.sleep(0)
    fourth.cancel()
    sink.gate.set()
    await asyncio.gather(first, second, third, fifth)
    assert sink.batches == [[1, 2, 3], [5]]


async def test_time_is_up_while_the_batch_is_away() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send)
    now = monotonic()
    late = asyncio.ensure_future(coalescer.call(1, deadline=now + 60))
    early = asyncio.ensure_future(coalescer.call(2, deadline=now + 0.02))
    middle = asyncio.ensure_future(coalescer.call(3, deadline=now + 0.04))
    for call in (early, middle):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 30)
    sink.gate.set()
    assert await late == 2


async def test_what_expired_while_waiting_is_not_sent() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, patience=60)
    first = asyncio.ensure_future(coalescer.call(1))
    await sink.sent(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(coalescer.call(2, deadline=monotonic() + 0.02), 30)
    sink.gate.set()
    await first
    await coalescer.drain()
    assert sink.batches == [[1]]


async def test_items_of_a_batch_are_ordered_by_the_key_and_answered_in_order() -> None:
    sink = Sink()
    coalescer = Coalescer(sink.send, key=lambda item: item)
    assert await asyncio.gather(*map(coalescer.call, (3, 1, 2))) == [6, 2, 4]
    assert sink.batches == [[1, 2, 3]]


async def test_drain_waits_for_what_waits_and_what_is_under_way() -> None:
    sink = Sink(answers=False)
    coalescer = Coalescer(sink.send, patience=60)
    calls = [asyncio.ensure_future(coalescer.call(1))]
    await sink.sent(1)
    calls.append(asyncio.ensure_future(coalescer.call(2)))
    drained = asyncio.ensure_future(coalescer.drain())
    await asyncio.sleep(0.01)
    assert not drained.done()
    sink.gate.set()
    await asyncio.wait_for(drained, 30)
    await asyncio.sleep(0)
    assert all(call.done() for call in calls)


async def test_a_batch_runs_outside_its_callers_context() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen = []

    async def send(items: list[int]) -> Sequence[int | Exception]:
        seen.append(variable.get())
        return items

    variable.set("the caller's")
    await Coalescer(send).call(1)
    assert seen == ["none"]
