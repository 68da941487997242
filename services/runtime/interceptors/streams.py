"""Ends endless streams when the server stops."""

import asyncio
from collections.abc import Mapping
from typing import Any

from services.kernel.errors import Kind, ParleyError
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method


class Streams(Interceptor):
    """Streams without a deadline (watches) would keep a stopping server until it loses patience."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        super().__init__(methods)
        self._endless: set[asyncio.Task[Any]] = set()
        self._draining = False

    def drain(self) -> None:
        """End the endless streams; their clients find another replica."""
        self._draining = True
        for task in self._endless:
            task.cancel()

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        if not method.is_stream or context.time_remaining() is not None:
            return await proceed(request, context)
        # A task of its own: cancelling the RPC's task would leave the client without a status.
        work = asyncio.ensure_future(proceed(request, context))
        self._endless.add(work)
        try:
            return await work
        except asyncio.CancelledError:
            if self._draining and work.cancelled():
                message = "The service is stopping; connect again."
                raise ParleyError(Kind.UNAVAILABLE, "DRAINING", message, retry_after=0.1) from None
            raise
        finally:
            work.cancel()
            self._endless.discard(work)
