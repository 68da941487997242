"""Gathers concurrent calls and sends them as one batch.

Clients use it to put calls into one RPC, services to put writes into one commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from itertools import islice
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

Req = TypeVar("Req")
Res = TypeVar("Res")

_NEVER = float("inf")
COMPANY, ENOUGH = 3, 16
"""From how many items in the last batch gathering pays off, and how many waiting items are enough to leave at once."""


class _Entry(NamedTuple, Generic[Req, Res]):
    item: Req
    future: "asyncio.Future[Res]"
    deadline: float


class Coalescer(Generic[Req, Res]):
    """Gathers items into batches.

    If no batch is running, an item leaves in the same turn of the event loop, together with the others of that turn.
    Only if the last batch had several items does it wait `gather` seconds for more, so a lone call never waits. While a
    batch is running, new items wait. They leave together when it returns, when it has run for `patience` seconds (so
    that one slow batch delays few), or when they fill a batch. At most `max_in_flight` batches run at a time.

    A cancelled caller leaves the queue; a batch that has left goes on without it.
    """

    def __init__(
        self,
        send: Callable[[list[Req]], Awaitable[Sequence[Res | Exception]]],
        *,
        max_items: int = 256,
        max_in_flight: int = 4,
        patience: float = 0.02,
        gather: float = 0.0,
        key: Callable[[Req], Any] | None = None,
        isolate: bool = False,
    ) -> None:
        """`send` takes a batch and returns a result or an exception for each item, in order; if it raises, every item
        gets that exception. `gather` pays off where items arrive one by one, at the edge of the mesh; behind it they
        arrive in batches. `key` sorts a batch, so that all statements lock rows in the same order. With `isolate`, a
        batch that fails as a whole is repeated item by item, so that only the item at fault fails.
        """
        self._send = send
        self._max_items = max_items
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._gather = gather
        self._key = key
        self._isolate = isolate
        self._waiting: deque[_Entry[Req, Res]] = deque()
        self._under_way: dict[asyncio.Task[None], list[_Entry[Req, Res]]] = {}
        self._flush_soon = False
        self._last_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_at = _NEVER
        self._sweeper: asyncio.TimerHandle | None = None

    async def call(self, item: Req, *, deadline: float = _NEVER) -> Res:
        """Returns the item's result or raises its exception.

        Raises TimeoutError at `deadline` (`time.monotonic()` seconds); an item that has not left by then never leaves.
        """
        return await self.submit(item, deadline)

    def submit(self, item: Req, deadline: float = _NEVER) -> "asyncio.Future[Res]":
        """Does the same as `call` without a coroutine around it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Res] = loop.create_future()
        self._waiting.append(_Entry(item, future, deadline))
        if not self._flush_soon and (self._timer is None or len(self._waiting) >= self._max_items):
            self._arrange_flush(loop)
        if deadline < self._sweep_at:
            self._arrange_sweep(loop, deadline)
        return future

    async def drain(self) -> None:
        """Waits until no item waits and no batch is running."""
        while self._waiting or self._under_way:
            if self._under_way:
                await asyncio.wait(self._under_way)
            else:
                await asyncio.sleep(0)

    def _arrange_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        under_way = len(self._under_way)
        full = len(self._waiting) >= self._max_items
        if self._gather and not under_way and self._last_size >= COMPANY and not full:
            if self._timer is None:
                self._timer = loop.call_later(self._gather, self._flush, context=Context())
        elif not under_way or (full and under_way < self._max_in_flight):
            self._flush_soon = True
            # An empty context: a batch belongs to no caller's trace, deadline or identity.
            loop.call_soon(self._flush, context=Context())
        elif self._timer is None and under_way < self._max_in_flight:
            self._timer = loop.call_later(self._patience, self._flush, context=Context())

    def _flush(self) -> None:
        self._flush_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._under_way) < self._max_in_flight:
            batch = self._take()
            if batch:
                self._last_size = len(batch)
                task = loop.create_task(self._run(batch))
                self._under_way[task] = batch
                task.add_done_callback(self._returned)

    def _take(self) -> list[_Entry[Req, Res]]:
        """Takes the next batch, without items whose caller has left or whose time is up."""
        now = monotonic()
        batch: list[_Entry[Req, Res]] = []
        while self._waiting and len(batch) < self._max_items:
            entry = self._waiting.popleft()
            if entry.future.done():
                continue
            if entry.deadline <= now:
                entry.future.set_exception(TimeoutError())
            else:
                batch.append(entry)
        key = self._key
        if key is not None:
            batch.sort(key=lambda entry: key(entry.item))
        return batch

    async def _run(self, batch: list[_Entry[Req, Res]]) -> None:
        results: Sequence[Res | Exception]
        try:
            results = await self._send([entry.item for entry in batch])
        except Exception as error:
            results = await self._one_by_one(batch) if self._isolate and len(batch) > 1 else [error] * len(batch)
        if len(results) != len(batch):
            results = [RuntimeError(f"{len(results)} results for {len(batch)} items")] * len(batch)
        for entry, result in zip(batch, results, strict=True):
            if entry.future.done():
                continue
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)

    async def _one_by_one(self, batch: list[_Entry[Req, Res]]) -> list[Res | Exception]:
        results: list[Res | Exception] = []
        for entry in batch:
            try:
                results.extend(islice(await self._send([entry.item]), 1))
            except Exception as error:
                results.append(error)
        return results

    def _returned(self, task: asyncio.Task[None]) -> None:
        for entry in self._under_way.pop(task):
            if not entry.future.done():  # only while the event loop is being shut down
                entry.future.cancel()
        if not self._waiting or self._flush_soon:
            return
        if self._gather and self._last_size >= COMPANY and len(self._waiting) < ENOUGH:
            self._arrange_flush(asyncio.get_running_loop())
        else:
            self._flush()  # callers that just got results ran before this, so their next calls are in the queue

    def _arrange_sweep(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweep_at = at
        self._sweeper = loop.call_later(max(0.0, at - monotonic()), self._sweep, context=Context())

    def _sweep(self) -> None:
        """Ends calls whose time is up. A single timer, set to the earliest deadline, serves all calls."""
        self._sweeper, self._sweep_at = None, _NEVER
        now = monotonic()
        earliest = _NEVER
        for entries in (self._waiting, *self._under_way.values()):
            for entry in entries:
                if entry.future.done():
                    continue
                if entry.deadline <= now:
                    entry.future.set_exception(TimeoutError())
                elif entry.deadline < earliest:
                    earliest = entry.deadline
        if earliest < _NEVER:
            self._arrange_sweep(asyncio.get_running_loop(), earliest)
